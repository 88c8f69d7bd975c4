"""Runs per second with several callers at once: not the inverse of latency, and not measured together with it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING

from edgepress.errors import UserError
from edgepress.measure.record import Measurement
from edgepress.targets.remote.session import RemoteSession
from edgepress.targets.worker.concurrency import calls_per_second

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
        `throughput_per_s`: runs per second times the batch size (first axis of the first input). Taken where the
        session is; `None` with the reason where time means nothing (emulation).

    Raises:
        UserError: fewer than one caller or repeat.
    """
    if callers < 1 or repeats < 1:
        raise UserError("nothing to measure", found=f"{callers} callers, {repeats} repeats", expected="one of each")
    with ExitStack() as stack:
        first = stack.enter_context(closing(open_session()))
        if isinstance(first, RemoteSession) and first.why_untimed:
            return _unknown(first.why_untimed, target)
        if isinstance(first, RemoteSession):
            window = partial(first.calls_per_second, inputs, callers, seconds)
        else:
            others = [stack.enter_context(closing(open_session())) for _ in range(callers - 1)]
            window = partial(calls_per_second, [partial(s.run, inputs) for s in (first, *others)], seconds)
        batch = (next(iter(inputs.values())).shape[:1] or (1,))[0]
        rates = [batch * window() for _ in range(repeats)]
        return _measurement(rates, f"{first.describe()}; {callers} caller(s), windows of {seconds:g} s", target)


def _unknown(reason: str, target: str) -> Measurement:
    return Measurement(
        name="throughput_per_s", value=None, unit="1/s", n=0, better="higher", target=target, reason=reason
    )


def _measurement(rates: Sequence[float], method: str, target: str) -> Measurement:
    return Measurement(
        name="throughput_per_s",
        value=statistics.median(rates),
        unit="1/s",
        n=len(rates),
        samples=tuple(rates),
        method=f"median; {method}",
        better="higher",
        target=target,
    )
