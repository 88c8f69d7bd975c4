"""NVML on a stand-in for its library: no GPU was at hand where this was written."""

import os
from types import SimpleNamespace

import pytest

from edgepress.targets.meters import nvml
from edgepress.targets.meters.meter import NoMeter


class NVMLError(Exception): ...


class Library:
    """Two GPUs; the second has no energy counter."""

    NVMLError = NVMLError

    def __init__(self) -> None:
        self.millijoules, self.running = 1000, [SimpleNamespace(pid=1, usedGpuMemory=5)]

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index > 1:
            raise NVMLError("Invalid Argument")
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:
        return f"GPU {handle}"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        if handle == 1:
            raise NVMLError("Not Supported")
        self.millijoules += 250
        return self.millijoules

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return 40_000

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list:
        return self.running


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    found = Library()
    monkeypatch.setattr(nvml, "_import", lambda: found)
    return found


def test_the_counter_comes_first(library: Library) -> None:
    meter = nvml.open_nvml("cuda:0")
    assert "GPU 0: the whole board" in meter.covers
    assert meter.joules() == pytest.approx(0.25) and meter.joules() == pytest.approx(0.5)


def test_a_counter_that_goes_back_was_reset(library: Library) -> None:
    meter = nvml.open_nvml("cuda:0")
    library.millijoules = 0
    with pytest.raises(NoMeter, match="backwards"):
        meter.joules()


def test_power_is_sampled_where_there_is_no_counter(library: Library) -> None:
    meter = nvml.open_nvml("cuda:1")
    try:
        assert "sampled" in meter.covers
    finally:
        meter.close()


def test_a_gpu_that_is_not_there(library: Library) -> None:
    for ask in (nvml.open_nvml, nvml.process_memory):
        with pytest.raises(NoMeter, match="Invalid Argument"):
            ask("cuda:7")


def test_memory_of_this_process(library: Library) -> None:
    library.running.append(SimpleNamespace(pid=os.getpid(), usedGpuMemory=300 << 20))
    assert nvml.process_memory("cuda:0") == 300 << 20
    library.running[-1] = SimpleNamespace(pid=os.getpid(), usedGpuMemory=None)
    with pytest.raises(NoMeter, match="does not tell"):
        nvml.process_memory("cuda:0")
    library.running.pop()
    with pytest.raises(NoMeter, match="not this one"):
        nvml.process_memory("cuda:0")
