"""Latency of several sessions, taken in turns so that whatever disturbs the machine disturbs all of them alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from edgepress.errors import UserError
from edgepress.measure.percentiles import quantile, supported
from edgepress.measure.record import Measurement
from edgepress.targets.remote.session import RemoteSession, same_place, take_turns_there
from edgepress.targets.worker.turns import Turns, take_turns
from edgepress.targets.worker.warmup import Warmup

if TYPE_CHECKING:
    from edgepress.targets.runtimes import Array, Session

PERCENTILES = {"latency_p90_ms": 0.90, "latency_p95_ms": 0.95, "latency_p99_ms": 0.99}
# A median that moves this much from the first half of the runs to the second is a trend, not noise.
MAX_DRIFT = 0.05


class Latencies(dict[str, tuple[Measurement, ...]]):
    """Measurements per session name, and what was seen meanwhile that makes them doubtful.

    Sample i of every session was taken in round i: ratios of two sessions may be taken sample by sample.
    """

    def __init__(self, measurements: Mapping[str, tuple[Measurement, ...]], warnings: Sequence[str]) -> None:
        super().__init__(measurements)
        self.warnings = tuple(warnings)


def compare_latency(
    sessions: Mapping[str, Session],
    inputs: Mapping[str, Array] | Mapping[str, Mapping[str, Array]],
    *,
    runs: int = 200,
    warmup: int = 20,
    seed: int = 0,
    target: str = "",
) -> Latencies:
    """Latency in ms of each session, one run of each per round, in an order shuffled anew each round.

    Args:
        sessions: name -> open session.
        inputs: input name -> array for all sessions, or session name -> such a mapping where they take different ones.
        runs: rounds, hence samples per session. warmup: least runs before the first round; more until it is stable.
        seed: of the order within rounds. target: name put into the measurements.

    Returns:
        Per session `latency_ms` (median, raw samples in order of rounds), the percentiles that `runs` supports.
        `None` with the reason where time means nothing (emulation).

    Raises:
        UserError: no session, fewer than one run, inputs that do not fit, or sessions in different places.
    """
    if not sessions or runs < 1:
        raise UserError("nothing to measure", found=f"{len(sessions)} sessions, {runs} runs", expected="one of each")
    feeds = {name: _feed(name, sessions, inputs) for name in sessions}
    why_untimed = next((s.why_untimed for s in sessions.values() if isinstance(s, RemoteSession) and s.why_untimed), "")
    if why_untimed:
        return Latencies({name: (_unknown(why_untimed, target),) for name in sessions}, ())
    turns = _take_turns(sessions, feeds, runs, warmup, seed)
    warnings = (*_unsettled(turns.warmups), *turns.disturbances, *_drifts(turns.seconds))
    measurements = {
        name: _summary(np.asarray(seconds) * 1e3, _method(sessions[name], len(sessions), turns.warmups[name]), target)
        for name, seconds in turns.seconds.items()
    }
    return Latencies(measurements, warnings)


def _take_turns(
    sessions: Mapping[str, Session], feeds: Mapping[str, Mapping[str, Array]], runs: int, warmup: int, seed: int
) -> Turns:
    """Time them where they are: here, or all on one far side."""
    if same_place(sessions):
        remote = {name: s for name, s in sessions.items() if isinstance(s, RemoteSession)}
        return take_turns_there(remote, feeds, runs=runs, warmup=warmup, seed=seed)
    calls = {name: partial(session.run, feeds[name]) for name, session in sessions.items()}
    return take_turns(calls, runs=runs, warmup=warmup, seed=seed)


def _unknown(reason: str, target: str) -> Measurement:
    return Measurement(name="latency_ms", value=None, unit="ms", n=0, target=target, reason=reason)


def _feed(
    name: str,
    sessions: Mapping[str, Session],
    inputs: Mapping[str, Array] | Mapping[str, Mapping[str, Array]],
) -> Mapping[str, Array]:
    """The inputs of one session."""
    if set(inputs) == set(sessions) and all(isinstance(value, Mapping) for value in inputs.values()):
        return inputs[name]  # type: ignore[return-value]
    return inputs  # type: ignore[return-value]


def _summary(samples_ms: np.ndarray, method: str, target: str) -> tuple[Measurement, ...]:
    n = len(samples_ms)
    median = quantile(samples_ms.tolist(), 0.5)
    latency = Measurement(
        name="latency_ms",
        value=median.value,
        unit="ms",
        n=n,
        low=median.low,
        high=median.high,
        samples=tuple(samples_ms.tolist()),
        method=f"median; {method}",
        target=target,
    )
    return (
        latency,
        *(_percentile(name, q, samples_ms, method, target) for name, q in PERCENTILES.items() if supported(q, n)),
    )


def _percentile(name: str, q: float, samples_ms: np.ndarray, method: str, target: str) -> Measurement:
    value, low, high = quantile(samples_ms.tolist(), q)
    return Measurement(
        name=name, value=value, unit="ms", n=len(samples_ms), low=low, high=high, method=method, target=target
    )


def _method(session: Session, count: int, warmup: Warmup) -> str:
    turns = f"interleaved with {count - 1} other(s)" if count > 1 else "alone"
    return f"{session.describe()}; {turns}; {warmup.runs} warm-up runs"


def _unsettled(warmups: Mapping[str, Warmup]) -> Iterator[str]:
    for name, warmup in warmups.items():
        if not warmup.settled:
            yield f"{name} had not settled after {warmup.runs} warm-up runs"


def _drifts(seconds: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """Sessions whose second half is slower or faster than the first: heat, frequency, a neighbour that came or went."""
    for name, samples in seconds.items():
        half = len(samples) // 2
        if half < 10:
            continue
        first, second = float(np.median(samples[:half])), float(np.median(samples[half:]))
        if abs(second - first) > MAX_DRIFT * first:
            yield f"{name} drifted by {second / first - 1:+.0%} from the first half of its runs to the second"
