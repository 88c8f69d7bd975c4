"""Cold start of an artifact: memory, load time and first inference, each in a process that has seen nothing before."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepress.errors import ToolError, UserError
from edgepress.measure.record import Measurement
from edgepress.targets import Target

if TYPE_CHECKING:
    from edgepress.targets.runtimes import Array

TIMEOUT_S = 600


def measure_cold_start(
    artifact: Path,
    target: Target,
    inputs: Mapping[str, Array],
    *,
    repeats: int = 5,
    runs: int = 10,
) -> tuple[Measurement, ...]:
    """Load and run an artifact in fresh processes, one after another.

    Args:
        inputs: one batch. repeats: processes. runs: inferences after the first, for buffers that grow late.

    Returns:
        `peak_memory_bytes`: the artifact's own: peak resident set minus what interpreter and runtime took before it
        was loaded. `peak_rss_bytes`: all of it. `runtime_memory_bytes`: interpreter and runtime alone.
        `load_ms`, `first_inference_ms`: from file to session; the first run. Medians; all values kept as samples.

    Raises:
        ToolError: the process fails or takes more than ten minutes.
    """
    if repeats < 1:
        raise UserError("nothing to measure", found=f"{repeats} repeats", expected="at least one")
    with tempfile.TemporaryDirectory(prefix="edgepress-") as folder:
        feed = Path(folder) / "inputs.npz"
        np.savez(feed, **inputs)  # type: ignore[arg-type]
        request = {
            "artifact": str(artifact),
            "inputs": str(feed),
            "target": target.model_dump(mode="json"),
            "runs": runs,
        }
        seen = [_probe(request, artifact) for _ in range(repeats)]
    return tuple(_measurements(seen, target.name))


def _probe(request: Mapping[str, Any], artifact: Path) -> dict[str, Any]:
    """What one fresh process reports."""
    command = [sys.executable, "-m", "edgepress.measure.probe"]
    try:
        done = subprocess.run(
            command, input=json.dumps(request), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise ToolError(f"loading and running {artifact} took more than {TIMEOUT_S} s in a fresh process") from None
    if done.returncode != 0:  # a signal or a defect: errors made on purpose come back as data
        last = done.stderr.strip().splitlines()[-1:] or ["nothing on stderr"]
        raise ToolError(f"{artifact} could not be run in a fresh process", found=f"exit {done.returncode}: {last[0]}")
    report = dict(json.loads(done.stdout))
    if "error" in report:
        raise ToolError(**report["error"])
    return report


def _measurements(seen: Sequence[Mapping[str, Any]], target: str) -> list[Measurement]:
    imports = [float(s["imported_bytes"]) for s in seen]
    peaks = [float(s["peak_bytes"]) for s in seen]
    exact = all(s["peak_is_of_artifact"] for s in seen)
    how = f"fresh process each; {seen[0]['description']}"
    own = how if exact else f"{how}; the import's own peak may hide the artifact's"
    columns = {
        "peak_memory_bytes": ([peak - start for peak, start in zip(peaks, imports, strict=True)], "bytes", own),
        "peak_rss_bytes": (peaks, "bytes", how),
        "runtime_memory_bytes": (imports, "bytes", how),
        "load_ms": ([float(s["load_ms"]) for s in seen], "ms", how),
        "first_inference_ms": ([float(s["first_inference_ms"]) for s in seen], "ms", how),
    }
    return [
        Measurement(
            name=name,
            value=statistics.median(values),
            unit=unit,
            n=len(values),
            samples=tuple(values),
            method=f"median; {method}",
            target=target,
        )
        for name, (values, unit, method) in columns.items()
    ]
