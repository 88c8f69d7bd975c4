"""Where numbers were taken, and whether two machines are alike enough to compare timings."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import psutil

from edgepress.measure.record import Environment

TOOLS = ("edgepress", "numpy", "torch", "onnx", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt")
# CPU features that decide which kernels a runtime picks.
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm", "sve", "bf16", "avx512_bf16")


def describe(warnings: Sequence[str] = ()) -> Environment:
    """This machine. `warnings`: what was seen while measuring, put into the record."""
    cpu, features = _cpu()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = psutil.virtual_memory().total
    return Environment(
        machine_class=machine_class(cpu, features, cores, memory),
        os=platform.platform(),
        cpu=" ".join((cpu, *features)),
        cores=cores,
        memory_bytes=memory,
        python=platform.python_version(),
        tools=_versions(),
        accelerators=_accelerators(),
        warnings=(*warnings, *_standing_warnings()),
    )


def machine_class(cpu: str, features: Sequence[str], cores: int, memory_bytes: int) -> str:
    """A name that is equal for machines whose timings may be compared: same CPU, features, cores and GiB of memory.

    Software versions are not part of it: a slower release of a runtime is a finding, not another machine.
    """
    facts = "|".join(
        (platform.system(), platform.machine(), cpu, *features, str(cores), str(round(memory_bytes / 2**30)))
    )
    return f"{platform.machine()}-{cores}c-{hashlib.sha256(facts.encode()).hexdigest()[:10]}"


def _cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, tuple[str, ...]]:
    """Model name and those features that runtimes look at."""
    try:
        lines = [line.partition(":") for line in cpuinfo.read_text().splitlines()]
    except OSError:
        return platform.processor() or platform.machine(), ()
    fields = {key.strip().lower(): value.strip() for key, _, value in reversed(lines) if key.strip()}
    flags = set(fields.get("flags", fields.get("features", "")).split())
    part = " ".join(fields[key] for key in ("cpu implementer", "cpu part") if key in fields)
    model = " ".join(fields[key] for key in ("cpu family", "model", "stepping") if key in fields)
    name = fields.get("model name") or part or platform.machine()
    return f"{name} ({model})" if model else name, tuple(feature for feature in FEATURES if feature in flags)


def _versions() -> dict[str, str]:
    found = {}
    for tool in TOOLS:
        try:
            found[tool] = metadata.version(tool)
        except metadata.PackageNotFoundError:
            continue
    return found


def _accelerators(devices: Path = Path("/proc/driver/nvidia/gpus")) -> tuple[str, ...]:
    """Names of NVIDIA GPUs as the driver lists them; no library needed."""
    listings = (file.read_text().splitlines() for file in sorted(devices.glob("*/information")))
    return tuple(line.partition(":")[2].strip() for lines in listings for line in lines if line.startswith("Model:"))


def _standing_warnings(root: Path = Path("/sys/devices/system/cpu")) -> tuple[str, ...]:
    """What about this machine makes timings uncertain, whatever else runs."""
    governors = {path.read_text().strip() for path in root.glob("cpu[0-9]*/cpufreq/scaling_governor")}
    slack = governors - {"performance"}
    return (f"CPU frequency governor is {', '.join(sorted(slack))}: timings depend on load before",) if slack else ()
