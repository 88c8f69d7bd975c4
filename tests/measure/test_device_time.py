"""Time on the device, from sessions that can tell it and from those that cannot."""

import numpy as np
import pytest

from edgepress.measure.device_time import WARM_UP, measure_device_time

X = {"x": np.zeros((1, 1), np.float32)}


class Device:
    """Answers with 1, 2, 3, ... ms."""

    def __init__(self, tells: bool = True) -> None:
        self.calls, self.tells = 0, tells

    def device_ms(self, inputs) -> float | None:
        self.calls += 1
        return float(self.calls) if self.tells else None

    def describe(self) -> str:
        return "a device"


def test_the_median_of_the_runs_after_warming_up() -> None:
    device = Device()
    (found,) = measure_device_time(device, X, runs=11, target="gpu")  # type: ignore[arg-type]
    assert found.name == "device_latency_ms" and found.target == "gpu" and found.n == 11
    assert found.samples == tuple(range(2 + WARM_UP, 2 + WARM_UP + 11)) and found.value == pytest.approx(17)


def test_a_session_on_the_cpu_has_none() -> None:
    assert measure_device_time(Device(tells=False), X, runs=5) == ()  # type: ignore[arg-type]
    assert measure_device_time(object(), X, runs=5) == ()  # type: ignore[arg-type]
