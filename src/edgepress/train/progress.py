"""What a training run says while it runs, and what it leaves as a log."""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepress.train.checkpoint import disk_error

SECONDS_BETWEEN_REPORTS = 0.5


@dataclass(frozen=True)
class Progress:
    """The state of a run, for people.

    Attributes:
        step, steps: optimizer steps done and in all. loss: mean of this epoch so far. metric: last validation metric.
        samples_per_second: of training alone. seconds_left: estimate from the steps of this process.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    metric: float | None
    samples_per_second: float
    seconds_left: float

    def __str__(self) -> str:
        metric = "" if self.metric is None else f", metric {self.metric:.4g}"
        return (
            f"epoch {self.epoch}/{self.epochs}, step {self.step}/{self.steps}, loss {self.loss:.4g}{metric}, "
            f"{self.samples_per_second:.0f} samples/s, {self.seconds_left:.0f} s left"
        )


@dataclass(frozen=True)
class EpochLog:
    """One epoch: a line of `log.jsonl`. `seconds` and `samples_per_second` are of training, without validation."""

    epoch: int
    step: int
    loss: float
    lr: float
    metric: float | None
    seconds: float
    samples_per_second: float


class Reporter:
    """Calls back about twice a second, and measures the pace."""

    def __init__(self, callback: Callable[[Progress], None] | None) -> None:
        self._callback = callback
        self._training_seconds, self._samples, self._steps = 0.0, 0, 0
        self._last_report = -float("inf")

    def count(self, seconds: float, samples: int) -> None:
        """One optimizer step took `seconds` for `samples`."""
        self._training_seconds += seconds
        self._samples += samples
        self._steps += 1

    def report(self, make: Callable[[float, float], Progress], steps_left: int, *, force: bool = False) -> None:
        """Call back with `make(samples per second, seconds left)`, if it is time."""
        now = time.perf_counter()
        if self._callback is None or (not force and now - self._last_report < SECONDS_BETWEEN_REPORTS):
            return
        self._last_report = now
        pace = self._samples / self._training_seconds if self._training_seconds else 0.0
        left = steps_left * self._training_seconds / self._steps if self._steps else 0.0
        self._callback(make(pace, left))


def write_log(path: Path, log: Sequence[EpochLog]) -> None:
    """Write one JSON object per line, all of them: a resumed run repeats none.

    Raises:
        ToolError: the disk is full or not writable.
    """
    text = "".join(json.dumps(dataclasses.asdict(entry), sort_keys=True) + "\n" for entry in log)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise disk_error(path, error, len(text)) from error


def log_from(entries: Sequence[Mapping[str, Any]]) -> list[EpochLog]:
    """Entries as a checkpoint keeps them."""
    return [EpochLog(**entry) for entry in entries]
