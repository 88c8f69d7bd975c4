"""What a machine says about itself: plain data, so that far sides can say it too."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

TOOLS = ("edgepress", "numpy", "torch", "onnx", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt")


def facts(root: Path = Path("/")) -> dict[str, Any]:
    """System, architecture, cores, memory, versions, GPUs, frequency governors, and /proc/cpuinfo of the first core.

    Args:
        root: where /proc and /sys are looked for (another tree in tests).
    """
    governors = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    return {
        "system": platform.system(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processor": platform.processor(),
        "python": platform.python_version(),
        "tools": _versions(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "cpuinfo": _first_core(_text(root / "proc/cpuinfo")),
        "accelerators": _accelerators(root / "proc/driver/nvidia/gpus"),
        "power_mode": power_mode(),
        "governors": sorted({_text(path).strip() for path in governors} - {""}),
    }


def power_mode() -> str:
    """The mode an NVIDIA Jetson is in ("15W", "MAXN"), "" on other machines."""
    if shutil.which("nvpmodel") is None:
        return ""
    try:
        told = subprocess.run(["nvpmodel", "-q"], capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return parse_power_mode(told)


def parse_power_mode(text: str) -> str:
    """The mode in what `nvpmodel -q` prints: a line `NV Power Mode: MODE_15W`, then its number."""
    lines = (line.partition("NV Power Mode:")[2].strip() for line in text.splitlines())
    return next((line.removeprefix("MODE_") for line in lines if line), "")


def _first_core(cpuinfo: str) -> str:
    """The first block, plus the last lines: some boards name themselves there."""
    blocks = cpuinfo.strip().split("\n\n")
    return blocks[0] if len(blocks) == 1 else f"{blocks[0]}\n\n{blocks[-1]}"


def _versions() -> dict[str, str]:
    found = {}
    for tool in TOOLS:
        try:
            found[tool] = metadata.version(tool)
        except metadata.PackageNotFoundError:
            continue
    return found


def _accelerators(devices: Path) -> list[str]:
    """Names of NVIDIA GPUs as the driver lists them; no library needed."""
    listings = (_text(file).splitlines() for file in sorted(devices.glob("*/information")))
    return [line.partition(":")[2].strip() for lines in listings for line in lines if line.startswith("Model:")]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
