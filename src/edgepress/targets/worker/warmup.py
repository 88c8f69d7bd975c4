"""Running something until it has settled."""

import statistics
from collections.abc import Callable
from typing import NamedTuple

WINDOW = 10
TOLERANCE = 0.03


class Warmup(NamedTuple):
    """How many runs were spent, and whether the last two windows of ten agreed."""

    runs: int
    settled: bool


def warm_up(timed_run: Callable[[], float], *, at_least: int, at_most: int) -> Warmup:
    """Call `timed_run` (returns seconds) until the medians of two successive windows of ten differ by under 3 %.

    Args:
        at_least: runs to spend even if it settles sooner. at_most: runs after which to give up on settling.
    """
    seconds: list[float] = []
    while len(seconds) < max(at_most, at_least):
        seconds.append(timed_run())
        if len(seconds) >= at_least and len(seconds) % WINDOW == 0 and _settled(seconds):
            return Warmup(len(seconds), True)
    return Warmup(len(seconds), False)


def _settled(seconds: list[float]) -> bool:
    if len(seconds) < 2 * WINDOW:
        return False
    before, after = statistics.median(seconds[-2 * WINDOW : -WINDOW]), statistics.median(seconds[-WINDOW:])
    return abs(after - before) <= TOLERANCE * before
