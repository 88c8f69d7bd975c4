"""What loading and first running an artifact takes, seen from inside a process that has done neither before."""

from __future__ import annotations

import ctypes
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


class Runs(Protocol):
    def run(self, inputs: Any) -> Any: ...

    def describe(self) -> str: ...


def observe(
    import_runtime: Callable[[], object],
    open_session: Callable[[], Runs],
    feed: Any,
    runs: int,
    gpu_bytes: Callable[[], int | None] = lambda: None,
) -> dict[str, float | bool | str | None]:
    """Memory (bytes) and times (ms) of importing the runtime, loading the artifact and running it 1 + `runs` times.

    `allocator_bytes` is what the C library's allocator took from the system for the artifact, used or kept for reuse;
    `gpu_bytes` what the process holds on the GPU in the end. `None` where the system does not tell.
    """
    start = time.perf_counter()
    import_runtime()
    import_ms = (time.perf_counter() - start) * 1e3
    imported, held = resident_bytes(), allocator_bytes()
    exact = forget_peak()
    start = time.perf_counter()
    session = open_session()
    loaded = time.perf_counter()
    session.run(feed)
    first = time.perf_counter()
    for _ in range(runs):
        session.run(feed)
    held_now = allocator_bytes()
    return {
        "allocator_bytes": None if held is None or held_now is None else held_now - held,
        "gpu_bytes": gpu_bytes(),
        "imported_bytes": imported,
        "peak_bytes": peak_bytes(),
        "peak_is_of_artifact": exact,
        "import_ms": import_ms,
        "load_ms": (loaded - start) * 1e3,
        "first_inference_ms": (first - loaded) * 1e3,
        "description": session.describe(),
    }


class _Mallinfo2(ctypes.Structure):
    """struct mallinfo2 of glibc 2.33 and later (mallinfo(3))."""

    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
    )]  # fmt: skip


def allocator_bytes() -> int | None:
    """Bytes that malloc holds now, in its arenas and in mappings of their own; `None` without glibc."""
    try:
        tell = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError, TypeError):
        return None
    tell.restype = _Mallinfo2
    info = tell()
    return int(info.arena + info.hblkhd)


def resident_bytes() -> int:
    """Resident set now. Where /proc is missing (macOS), the peak so far stands for it: too high, never too low."""
    return _status("VmRSS") or peak_bytes()


def peak_bytes() -> int:
    """Largest resident set since the start, or since `forget_peak`."""
    from_kernel = _status("VmHWM")
    if from_kernel:
        return from_kernel
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak() -> bool:
    """Set the kernel's peak back to now (proc(5), clear_refs 5), so that the imports' own peak does not hide the
    artifact's. Returns whether the kernel allowed it."""
    try:
        CLEAR.write_text("5")
    except OSError:
        return False
    return True


def _status(field: str) -> int:
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":")), 0)
