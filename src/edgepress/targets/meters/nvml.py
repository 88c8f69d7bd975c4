"""NVIDIA GPUs through NVML (nvidia-ml-py): the only place that imports pynvml."""

from __future__ import annotations

import os
from typing import Any

from edgepress.targets.meters.meter import CounterMeter, Meter, NoMeter, SamplingMeter, WrappingCounter

# The energy counter moves in steps of the power sampling, 20 to 100 ms depending on the generation: the slowest counts.
NVML_PERIOD_S = 0.1


def open_nvml(device: str = "cuda:0") -> Meter:
    """The energy counter of a GPU (Volta and later), or else its power, sampled.

    Raises:
        NoMeter: nvidia-ml-py or the driver is missing, no such GPU, or it tells neither.
    """
    nvml = _import()
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByIndex(int(device.partition(":")[2] or 0))
        name = nvml.nvmlDeviceGetName(handle)
    except nvml.NVMLError as error:
        raise NoMeter("NVML has no such GPU", found=f"{device}: {error}", expected="an NVIDIA driver and GPU") from None
    try:
        return _energy_counter(nvml, handle, f"NVML {name}: the whole board of the GPU, not the host")
    except NoMeter:
        return _sampled_power(nvml, handle, f"NVML {name}: power of the whole board, sampled; not the host")


def process_memory(device: str = "cuda:0", pid: int = 0) -> int:
    """Bytes that a process (this one if 0) holds on the GPU, its context included.

    Raises:
        NoMeter: as `open_nvml`, or the driver does not tell (inside some containers).
    """
    nvml = _import()
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByIndex(int(device.partition(":")[2] or 0))
        running = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except nvml.NVMLError as error:
        raise NoMeter("NVML does not tell the memory of processes", found=f"{device}: {error}") from None
    wanted = pid or os.getpid()
    found = [process.usedGpuMemory for process in running if process.pid == wanted]
    if not found or found[0] is None:
        raise NoMeter("NVML does not tell the memory of processes", found=f"{len(running)} others, not this one")
    return int(sum(found))


def sampled_power(device: str = "cuda:0") -> Meter:
    """The same GPU's power integrated over time: a second opinion on its energy counter.

    Raises:
        NoMeter: as `open_nvml`.
    """
    nvml = _import()
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByIndex(int(device.partition(":")[2] or 0))
    except nvml.NVMLError as error:
        raise NoMeter("NVML has no such GPU", found=f"{device}: {error}") from None
    return _sampled_power(nvml, handle, "NVML power, sampled")


def _import() -> Any:
    try:
        import pynvml
    except ImportError:
        raise NoMeter("no NVML", found="nvidia-ml-py is not installed", fix="pip install nvidia-ml-py") from None
    return pynvml


def _energy_counter(nvml: Any, handle: Any, covers: str) -> Meter:
    def millijoules() -> int:
        try:
            return int(nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        except nvml.NVMLError as error:
            raise NoMeter("the GPU's energy counter does not answer", found=str(error)) from None

    return CounterMeter("nvml", covers, [WrappingCounter(millijoules, None)], 1e-3, NVML_PERIOD_S)


def _sampled_power(nvml: Any, handle: Any, covers: str) -> Meter:
    def watts() -> float:
        try:
            return float(nvml.nvmlDeviceGetPowerUsage(handle)) * 1e-3
        except nvml.NVMLError as error:
            raise NoMeter("the GPU's power sensor does not answer", found=str(error)) from None

    return SamplingMeter("nvml", covers, watts, NVML_PERIOD_S / 5)
