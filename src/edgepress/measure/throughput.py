"""Runs per second with several callers at once: not the inverse of latency, and not measured together with it."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from edgepress.measure.record import Measurement

if TYPE_CHECKING:
    from edgepress.targets.runtimes import Array, Session


def measure_throughput(
    open_session: Callable[[], Session],
    inputs: Mapping[str, Array],
    *,
    callers: int = 1,
    seconds: float = 1.0,
    repeats: int = 5,
    target: str = "",
) -> Measurement:
    """Samples per second of several callers, each with a session of its own and the next run right after the last.

    Args:
        open_session: makes one more session. inputs: one batch, sent again and again.
        seconds: length of a window. repeats: windows, whose median is reported.

    Returns:
        `throughput_per_s`: runs per second times the batch size (first axis of the first input).
    """
    sessions = [open_session() for _ in range(callers)]
    batch = next(iter(inputs.values())).shape[:1] or (1,)
    try:
        rates = [batch[0] * _window(sessions, inputs, seconds) for _ in range(repeats)]
        method = f"median; {sessions[0].describe()}; {callers} caller(s), windows of {seconds:g} s"
    finally:
        for session in sessions:
            session.close()
    return Measurement(
        name="throughput_per_s",
        value=statistics.median(rates),
        unit="1/s",
        n=repeats,
        samples=tuple(rates),
        method=method,
        better="higher",
        target=target,
    )


def _window(sessions: Sequence[Session], inputs: Mapping[str, Array], seconds: float) -> float:
    """Runs per second of all callers together. They start at one barrier; each counts what it finished."""
    barrier = threading.Barrier(len(sessions))
    with ThreadPoolExecutor(len(sessions)) as pool:
        return sum(pool.map(lambda session: _keep_calling(session, inputs, seconds, barrier), sessions))


def _keep_calling(session: Session, inputs: Mapping[str, Array], seconds: float, barrier: threading.Barrier) -> float:
    session.run(inputs)
    barrier.wait()
    start = time.perf_counter()
    runs = 0
    while (elapsed := time.perf_counter() - start) < seconds:
        session.run(inputs)
        runs += 1
    return runs / elapsed
