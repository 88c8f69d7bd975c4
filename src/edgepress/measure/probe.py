"""The program of a fresh process that loads one artifact, runs it, and tells what that took (see `cold_start`).

Reads one JSON object from stdin: {"artifact": path, "inputs": path of an .npz, "target": the target's fields}.
Writes one JSON object to stdout: what it saw, or {"error": {what, found, expected, fix}}.
"""

import json
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepress.errors import EdgepressError

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


def main() -> int:
    try:
        report: dict[str, Any] = observe(json.load(sys.stdin))
    except EdgepressError as error:
        report = {"error": {"what": error.what, "found": error.found, "expected": error.expected, "fix": error.fix}}
    sys.stdout.write(json.dumps(report))
    return 0


def observe(request: Mapping[str, Any]) -> dict[str, float | bool | str]:
    """Memory in bytes and times in ms of importing the runtime, loading the artifact and running it."""
    interpreter = resident_bytes()
    import numpy as np

    from edgepress.targets import Target, runtimes

    target = Target.model_validate(request["target"])
    feed = dict(np.load(request["inputs"], allow_pickle=False))
    start = time.perf_counter()
    runtimes.import_runtime(target)
    import_ms = (time.perf_counter() - start) * 1e3
    imported = resident_bytes()
    exact = forget_peak()
    start = time.perf_counter()
    session = runtimes.open_session(Path(request["artifact"]), target)
    loaded = time.perf_counter()
    session.run(feed)
    first = time.perf_counter()
    for _ in range(int(request["runs"])):
        session.run(feed)
    return {
        "interpreter_bytes": interpreter,
        "imported_bytes": imported,
        "peak_bytes": peak_bytes(),
        "peak_is_of_artifact": exact,
        "import_ms": import_ms,
        "load_ms": (loaded - start) * 1e3,
        "first_inference_ms": (first - loaded) * 1e3,
        "description": session.describe(),
    }


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


if __name__ == "__main__":
    sys.exit(main())
