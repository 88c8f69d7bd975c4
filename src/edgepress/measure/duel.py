"""Latencies of one or two artifacts that grow on demand: for a gate that measures until its verdict is clear."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from edgepress.errors import UserError
from edgepress.measure.latency import compare_latency
from edgepress.measure.record import Measurement
from edgepress.targets import Target
from edgepress.targets.runtimes import made_up_inputs, open_session

WARM = 5
"""Runs before each further batch: the sessions are warm, only caches have to come back."""


class Duel:
    """Keeps the sessions of several artifacts open and times them in turns; a context manager.

    Args:
        artifacts: name -> file. target: where they run. seed: of made-up inputs and of the order of runs.

    Raises:
        UserError, MissingTool, ToolError: see `edgepress.targets.runtimes.open_session`.
    """

    def __init__(self, artifacts: Mapping[str, Path], target: Target, *, seed: int = 0) -> None:
        self._target, self._seed = target, seed
        self._samples: dict[str, tuple[float, ...]] = dict.fromkeys(artifacts, ())
        self.warnings: tuple[str, ...] = ()
        with ExitStack() as stack:
            self._sessions = {name: open_session(path, target) for name, path in artifacts.items()}
            for session in self._sessions.values():
                stack.callback(session.close)
            self._feeds = {
                name: made_up_inputs(session.input_specs, batch=1, seed=seed)
                for name, session in self._sessions.items()
            }
            self._stack = stack.pop_all()

    def measure(self, pairs: int) -> dict[str, Measurement]:
        """`latency_ms` per artifact from at least `pairs` rounds in all; what was timed before counts.

        Raises:
            UserError: fewer than one round.
        """
        done = len(next(iter(self._samples.values())))
        if pairs < 1:
            raise UserError("nothing to measure", found=f"{pairs} rounds", expected="one or more")
        if pairs > done:
            return self._extend(pairs - done, first=done == 0)
        return dict(self._latest)

    def _extend(self, rounds: int, *, first: bool) -> dict[str, Measurement]:
        result = compare_latency(
            self._sessions,
            self._feeds,
            runs=rounds,
            warmup=20 if first else WARM,
            seed=self._seed + len(next(iter(self._samples.values()))),
            target=self._target.name,
        )
        self.warnings = tuple(dict.fromkeys((*self.warnings, *result.warnings)))
        self._latest = {name: self._joined(name, measurements[0]) for name, measurements in result.items()}
        return dict(self._latest)

    def _joined(self, name: str, latest: Measurement) -> Measurement:
        """All samples so far; their middle as the value."""
        samples = self._samples[name] = (*self._samples[name], *latest.samples)
        middle = sorted(samples)[len(samples) // 2]
        return latest.model_copy(
            update={"samples": samples, "n": len(samples), "value": middle, "low": None, "high": None}
        )

    def __enter__(self) -> Duel:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()
