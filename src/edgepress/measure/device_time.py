"""What a GPU itself needs for a run, between two of its own events: without the copies and without the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from edgepress.measure.percentiles import quantile
from edgepress.measure.record import Measurement

if TYPE_CHECKING:
    from edgepress.targets.runtimes import Array, Session

WARM_UP = 10


@runtime_checkable
class OnDevice(Protocol):
    """A session that can time itself on its device."""

    def device_ms(self, inputs: Mapping[str, Array]) -> float | None:
        """Milliseconds between an event before and one after a run; `None` on a device without events."""
        ...


def measure_device_time(
    session: Session, inputs: Mapping[str, Array], *, runs: int, target: str = ""
) -> tuple[Measurement, ...]:
    """`device_latency_ms`: median with a 95 % interval; nothing for a session on the CPU, whose latency says it all."""
    if not isinstance(session, OnDevice) or session.device_ms(inputs) is None:
        return ()
    for _ in range(WARM_UP):
        session.device_ms(inputs)
    samples = [ms for _ in range(runs) if (ms := session.device_ms(inputs)) is not None]
    median = quantile(samples, 0.5)
    return (
        Measurement(
            name="device_latency_ms", value=median.value, unit="ms", n=len(samples), low=median.low, high=median.high,
            samples=tuple(np.asarray(samples).tolist()), target=target,
            method=f"median between two events on the device, copies not counted; {session.describe()}",
        ),
    )  # fmt: skip
