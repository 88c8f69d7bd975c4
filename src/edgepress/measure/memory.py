"""Cold start of an artifact: memory, load time and first inference, each in a process that has seen nothing before."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepress.errors import UserError
from edgepress.measure.record import Measurement
from edgepress.targets import Target
from edgepress.targets.remote.place import far_side, why_untimed
from edgepress.targets.worker import wire

if TYPE_CHECKING:
    from edgepress.targets.runtimes import Array


def measure_cold_start(
    artifact: Path,
    target: Target,
    inputs: Mapping[str, Array],
    *,
    repeats: int = 5,
    runs: int = 10,
) -> tuple[Measurement, ...]:
    """Load and run an artifact in fresh processes on the target, one after another.

    Args:
        inputs: one batch. repeats: processes. runs: inferences after the first, for buffers that grow late.

    Returns:
        `peak_memory_bytes`: the artifact's own: peak resident set minus what interpreter and runtime took before it
        was loaded. `peak_rss_bytes`: all of it. `runtime_memory_bytes`: interpreter and runtime alone.
        `allocator_bytes`: what malloc took from the system for it, arenas kept for reuse included. `gpu_memory_bytes`
        on a GPU. `load_ms`, `first_inference_ms`: from file to session; the first run.
        Medians; all values kept as samples.
        All `None` with the reason where the process is emulated.

    Raises:
        UserError, MissingTool, ToolError: the target cannot be reached, or the artifact cannot be loaded or run there.
    """
    if repeats < 1:
        raise UserError("nothing to measure", found=f"{repeats} repeats", expected="at least one")
    reason = why_untimed(target)
    if reason:
        return tuple(_unknown(name, unit, target.name, reason) for name, unit in UNITS.items())
    packed = wire.pack_all(inputs)
    seen = [far_side(target).cold_start(artifact, packed, runs) for _ in range(repeats)]
    on_gpu = target.device.startswith(("cuda", "tensorrt"))
    return (*_measurements(seen, target.name), *_told(seen, "allocator_bytes", "allocator_bytes", target.name),
            *(_told(seen, "gpu_bytes", "gpu_memory_bytes", target.name) if on_gpu else ()))  # fmt: skip


UNITS = {
    "peak_memory_bytes": "bytes",
    "peak_rss_bytes": "bytes",
    "runtime_memory_bytes": "bytes",
    "allocator_bytes": "bytes",
    "load_ms": "ms",
    "first_inference_ms": "ms",
}
UNTOLD = {
    "allocator_bytes": "the C library does not tell (glibc 2.33 and later do)",
    "gpu_memory_bytes": "NVML does not tell the memory of this process",
}


def _unknown(name: str, unit: str, target: str, reason: str) -> Measurement:
    return Measurement(name=name, value=None, unit=unit, n=0, target=target, reason=reason)


def _told(seen: Sequence[Mapping[str, Any]], key: str, name: str, target: str) -> Iterator[Measurement]:
    """A figure that not every system gives."""
    values = [float(s[key]) for s in seen if s.get(key) is not None]
    if not values:
        yield _unknown(name, "bytes", target, UNTOLD[name])
        return
    method = f"median; fresh process each; {seen[0]['description']}"
    yield Measurement(
        name=name, value=statistics.median(values), unit="bytes", n=len(values), samples=tuple(values),
        method=method, target=target,
    )  # fmt: skip


def _measurements(seen: Sequence[Mapping[str, Any]], target: str) -> list[Measurement]:
    imports = [float(s["imported_bytes"]) for s in seen]
    peaks = [float(s["peak_bytes"]) for s in seen]
    exact = all(s["peak_is_of_artifact"] for s in seen)
    how = f"fresh process each; {seen[0]['description']}"
    own = how if exact else f"{how}; the import's own peak may hide the artifact's"
    columns = {
        "peak_memory_bytes": [peak - start for peak, start in zip(peaks, imports, strict=True)],
        "peak_rss_bytes": peaks,
        "runtime_memory_bytes": imports,
        "load_ms": [float(s["load_ms"]) for s in seen],
        "first_inference_ms": [float(s["first_inference_ms"]) for s in seen],
    }
    return [
        Measurement(
            name=name,
            value=statistics.median(values),
            unit=UNITS[name],
            n=len(values),
            samples=tuple(values),
            method=f"median; {own if name == 'peak_memory_bytes' else how}",
            target=target,
        )
        for name, values in columns.items()
    ]
