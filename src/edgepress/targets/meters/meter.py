"""What an energy meter is: joules so far, and how often it knows better. Standard library only, Python 3.9 and later:
the worker on a board runs this file as it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from edgepress.errors import ToolError


class NoMeter(ToolError):
    """The meter is not there, may not be read, or stopped answering."""


class Meter(Protocol):
    """Joules since it was opened.

    Attributes:
        name: as target files call it. covers: what the joules were spent on, and what they leave out.
        period_s: how often the reading changes: windows shorter than ten of these say nothing.
    """

    name: str
    covers: str
    period_s: float

    def joules(self) -> float:
        """Energy since `open`; never decreases by itself.

        Raises:
            NoMeter: it stopped answering.
        """
        ...

    def close(self) -> None: ...


class WrappingCounter:
    """A counter that starts again at 0 after `wraps_at`, made monotonic.

    It must be read at least once per turn: half a turn of RAPL's 262 kJ lasts 20 minutes at 100 W.
    """

    def __init__(self, read: Callable[[], int], wraps_at: int | None) -> None:
        self._read, self._wraps_at = read, wraps_at
        self._last = read()
        self._total = 0

    def total(self) -> int:
        """Counts since the start. A counter without a known range that goes back has been reset: that is an error."""
        now = self._read()
        step = now - self._last
        if step < 0:
            if self._wraps_at is None:
                raise NoMeter("an energy counter went backwards", found=f"{now} after {self._last}")
            step += self._wraps_at
        self._last = now
        self._total += step
        return self._total


class CounterMeter:
    """The sum of several counters of energy."""

    def __init__(
        self, name: str, covers: str, counters: Sequence[WrappingCounter], joules_per_count: float, period_s: float
    ) -> None:
        self.name, self.covers, self.period_s = name, covers, period_s
        self._counters, self._joules_per_count = counters, joules_per_count

    def joules(self) -> float:
        return sum(counter.total() for counter in self._counters) * self._joules_per_count

    def close(self) -> None:
        """Nothing is held open between readings."""


class SamplingMeter:
    """Power read again and again in a thread, integrated by the trapezoid rule.

    The thread costs what a reading costs; its share is part of what is measured, idle and busy alike.
    """

    def __init__(self, name: str, covers: str, watts: Callable[[], float], period_s: float) -> None:
        self.name, self.covers, self.period_s = name, covers, period_s
        self._watts = watts
        self._joules = 0.0
        self._last = (time.perf_counter(), watts())
        self._failure: NoMeter | None = None
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._keep_reading, name=f"edgepress-{name}", daemon=True)
        self._thread.start()

    def joules(self) -> float:
        self._read_once()
        if self._failure is not None:
            raise self._failure
        return self._joules

    def close(self) -> None:
        self._done.set()
        self._thread.join()

    def _keep_reading(self) -> None:
        while not self._done.wait(self.period_s) and self._failure is None:
            self._read_once()

    def _read_once(self) -> None:
        with self._lock:
            try:
                watts = self._watts()
            except NoMeter as failure:
                self._failure = failure
                return
            now = time.perf_counter()
            then, before = self._last
            self._joules += (now - then) * (watts + before) / 2
            self._last = (now, watts)
