"""Stretches of time with a meter at both ends: idle, or full of inferences."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from edgepress.targets.meters.meter import Meter


class Window(NamedTuple):
    joules: float
    seconds: float
    inferences: int


def idle(meter: Meter, seconds: float, sleep: Callable[[float], None] = time.sleep) -> Window:
    """A window in which nothing is run."""
    joules, start = meter.joules(), time.perf_counter()
    sleep(seconds)
    return Window(meter.joules() - joules, time.perf_counter() - start, 0)


def busy(meter: Meter, seconds: float, run: Callable[[], object]) -> Window:
    """A window in which `run` is called again and again; it ends with the call that passes its length."""
    joules, start = meter.joules(), time.perf_counter()
    inferences = 0
    while time.perf_counter() - start < seconds:
        run()
        inferences += 1
    return Window(meter.joules() - joules, time.perf_counter() - start, inferences)
