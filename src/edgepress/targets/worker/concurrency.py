"""Several callers at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor


def calls_per_second(calls: Sequence[Callable[[], object]], seconds: float) -> float:
    """Completed calls per second, of all callers together, each in a thread and without pause.

    They start at one barrier, after a first call each; every caller counts what it finished in its own time.
    """
    barrier = threading.Barrier(len(calls))
    with ThreadPoolExecutor(len(calls)) as pool:
        return sum(pool.map(lambda call: _keep_calling(call, seconds, barrier), calls))


def _keep_calling(call: Callable[[], object], seconds: float, barrier: threading.Barrier) -> float:
    call()
    barrier.wait()
    start = time.perf_counter()
    count = 0
    while (elapsed := time.perf_counter() - start) < seconds:
        call()
        count += 1
    return count / elapsed
