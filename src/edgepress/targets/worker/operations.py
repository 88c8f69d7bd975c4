"""What the worker does on request. Arguments and results are plain data: they travel as JSON."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from edgepress.errors import ToolError, UserError
from edgepress.targets.worker import cold_start, windows, wire
from edgepress.targets.worker.concurrency import calls_per_second
from edgepress.targets.worker.facts import facts
from edgepress.targets.worker.turns import take_turns

if TYPE_CHECKING:
    from edgepress.targets.meters import Meter
    from edgepress.targets.runtimes import Session


class Workbench:
    """What is open between requests: sessions by name, and a meter."""

    def __init__(self) -> None:
        self.sessions: dict[str, Session] = {}
        self.meter: Meter | None = None

    def session(self, name: str) -> Session:
        if name not in self.sessions:
            raise UserError(f"no session {name!r} is open", found=", ".join(self.sessions) or "none")
        return self.sessions[name]


def hello(bench: Workbench) -> dict[str, Any]:
    """Who answers."""
    import numpy  # noqa: F401  (without it no request that matters can be answered: better told now)

    return facts()


def size(bench: Workbench, path: str) -> int:
    """Bytes of a file that are already there, 0 if there are none."""
    file = Path(path).expanduser()
    return file.stat().st_size if file.is_file() else 0


def append(bench: Workbench, path: str, at: int, data: str) -> int:
    """Write base64 `data` at the end of a file, which must be `at` bytes long; returns its new size."""
    file = Path(path).expanduser()
    file.parent.mkdir(parents=True, exist_ok=True)
    if size(bench, path) != at:
        raise ToolError(f"somebody else writes {path}", found=f"{size(bench, path)} bytes", expected=f"{at} bytes")
    with file.open("ab") as stream:
        stream.write(base64.b64decode(data))
    return size(bench, path)


def finish(bench: Workbench, part: str, path: str, sha256: str) -> None:
    """Give a file that has arrived its name, if its bytes are what was sent."""
    source = Path(part).expanduser()
    found = hashlib.sha256(source.read_bytes()).hexdigest()
    if found != sha256:
        source.unlink()
        raise ToolError("a file arrived damaged", found=f"sha256 {found[:12]}", expected=f"sha256 {sha256[:12]}")
    source.replace(Path(path).expanduser())


def open_artifact(bench: Workbench, name: str, path: str, target: dict[str, Any]) -> dict[str, Any]:
    """Load an artifact under a name; returns what it takes and gives."""
    from edgepress.targets.runtimes import open_session

    if name in bench.sessions:
        bench.sessions.pop(name).close()
    session = open_session(Path(path).expanduser(), _target(target))
    bench.sessions[name] = session
    specs = {key: [list(spec.shape), spec.dtype] for key, spec in session.input_specs.items()}
    return {"inputs": specs, "outputs": list(session.output_names), "description": session.describe()}


def run(bench: Workbench, name: str, inputs: dict[str, Any]) -> list[Any]:
    """One inference."""
    return [wire.pack(output) for output in bench.session(name).run(wire.unpack_all(inputs))]


def turns(bench: Workbench, feeds: dict[str, Any], runs: int, warmup: int, seed: int) -> dict[str, Any]:
    """Time the named sessions in turns."""
    calls = {name: partial(bench.session(name).run, wire.unpack_all(feed)) for name, feed in feeds.items()}
    return take_turns(calls, runs=runs, warmup=warmup, seed=seed)._asdict()


def rate(bench: Workbench, names: list[str], inputs: dict[str, Any], seconds: float) -> float:
    """Runs per second of the named sessions, all at once."""
    feed = wire.unpack_all(inputs)
    return calls_per_second([partial(bench.session(name).run, feed) for name in names], seconds)


def start_cold(
    bench: Workbench, path: str, target: dict[str, Any], inputs: dict[str, Any], runs: int
) -> dict[str, Any]:
    """What loading and running an artifact takes in this process, which must not have done so before."""
    from edgepress.targets import runtimes

    place = _target(target)
    return cold_start.observe(
        partial(runtimes.import_runtime, place),
        partial(runtimes.open_session, Path(path).expanduser(), place),
        wire.unpack_all(inputs),
        runs,
        partial(_gpu_memory, place.device),
    )


def _gpu_memory(device: str) -> int | None:
    from edgepress.targets.meters.meter import NoMeter
    from edgepress.targets.meters.nvml import process_memory

    try:
        return process_memory(device) if device.startswith(("cuda", "tensorrt")) else None
    except NoMeter:
        return None


def open_meter(bench: Workbench, target: dict[str, Any]) -> dict[str, Any]:
    """Open the first of the target's meters that answers here."""
    from edgepress.targets import meters

    bench.meter = meters.open_meter(_target(target))
    return {"name": bench.meter.name, "covers": bench.meter.covers, "period_s": bench.meter.period_s}


def window(bench: Workbench, seconds: float, name: str, inputs: dict[str, Any]) -> windows.Window:
    """Energy of an idle window (empty name), or of one full of inferences."""
    if bench.meter is None:
        raise UserError("no meter is open")
    if not name:
        return windows.idle(bench.meter, seconds)
    return windows.busy(bench.meter, seconds, partial(bench.session(name).run, wire.unpack_all(inputs)))


def _target(fields: dict[str, Any]) -> Any:
    """The target's fields by name. It is local to this process, whatever it is to the caller."""
    return SimpleNamespace(**{**fields, "kind": "local"})


OPERATIONS: dict[str, Callable[..., Any]] = {
    "hello": hello,
    "size": size,
    "append": append,
    "finish": finish,
    "open": open_artifact,
    "run": run,
    "turns": turns,
    "rate": rate,
    "cold_start": start_cold,
    "open_meter": open_meter,
    "window": window,
}
