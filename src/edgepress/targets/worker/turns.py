"""Timing several sessions in turns, so that whatever disturbs the machine disturbs all of them alike."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from edgepress.targets.worker.conditions import disturbances, observe
from edgepress.targets.worker.warmup import Warmup, warm_up

# Warm-up gives up after this many times the asked-for runs.
MAX_WARMUP_FACTOR = 10


class Turns(NamedTuple):
    """Seconds per name, one per round, in order of rounds; how each was warmed up; what disturbed the machine."""

    seconds: dict[str, list[float]]
    warmups: dict[str, Warmup]
    disturbances: tuple[str, ...]


def take_turns(runs_of: Mapping[str, Callable[[], object]], *, runs: int, warmup: int, seed: int) -> Turns:
    """Call each of `runs_of` once per round, in an order shuffled anew each round.

    Args:
        runs_of: name -> one inference. runs: rounds. warmup: least calls of each before the first round; more until
            its time is stable. seed: of the order within rounds.
    """
    timed = {name: partial(_timed, run) for name, run in runs_of.items()}
    at_most = MAX_WARMUP_FACTOR * max(warmup, 20)
    warmups = {name: warm_up(run, at_least=warmup, at_most=at_most) for name, run in timed.items()}
    with _no_garbage_collection():
        before = observe()
        seconds = _rounds(timed, runs, random.Random(seed))
        after = observe()
    return Turns(seconds, warmups, disturbances(before, after))


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _rounds(timed: Mapping[str, Callable[[], float]], runs: int, order: random.Random) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    names = list(timed)
    for _ in range(runs):
        order.shuffle(names)
        for name in names:
            seconds[name].append(timed[name]())
    return seconds


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keep Python's collector out of the samples: it runs after so many allocations, whoever's turn it is."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
