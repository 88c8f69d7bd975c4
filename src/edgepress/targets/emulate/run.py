"""Deploying a C artifact on an emulated core: outputs, exact instruction counts, memory, modelled cycles."""

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgepress.errors import MissingTool, ToolError, UserError
from edgepress.measure.record import Measurement, Source
from edgepress.targets.emulate import build, cycles, engines
from edgepress.targets.emulate.cores import Core, core_named
from edgepress.targets.emulate.cycles import Cost

Engine = Literal["auto", "unicorn", "qemu"]
Int8s = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Deployment:
    """What an artifact does and costs on one core.

    Attributes:
        outputs: [n, output bytes] int8. layers: per layer name, the mean cost of one counted inference.
        flash_bytes: code and constants of the model alone. code_bytes: flash_bytes less the constants of the manifest.
        static_ram_bytes: variables outside the arena (0). stack_bytes: most that one inference used.
        stack_bound_bytes: most that any inference can use, from the call graph (gcc only, else None).
        engine, compiler: what ran and built it. layer_outputs: [n, bytes] per layer name, if asked for.
    """

    core: str
    engine: str
    compiler: str
    outputs: Int8s
    layers: dict[str, Cost]
    flash_bytes: int
    constant_bytes: int
    static_ram_bytes: int
    arena_bytes: int
    stack_bytes: int
    stack_bound_bytes: int | None = None
    layer_outputs: dict[str, Int8s] = field(default_factory=dict)

    @property
    def total(self) -> Cost:
        return sum(self.layers.values(), Cost())

    @property
    def code_bytes(self) -> int:
        return self.flash_bytes - self.constant_bytes

    def measurements(self) -> tuple[Measurement, ...]:
        """The figures as records: counted where they are exact, modelled where they are not."""
        method = f"{self.engine}, {self.compiler}"
        rows: list[tuple[str, float, str, Source]] = [
            ("instructions", self.total.instructions, "count", "counted"),
            ("flash_bytes", self.flash_bytes, "bytes", "counted"),
            ("arena_bytes", self.arena_bytes, "bytes", "counted"),
            ("stack_bytes", self.stack_bytes, "bytes", "counted"),
        ]
        if self.total.cycles:
            rows.append(("cycles", self.total.cycles, "count", "modelled"))
        return tuple(
            Measurement(name=name, value=value, unit=unit, source=source, method=method, target=self.core)
            for name, value, unit, source in rows
        )


def why_not(core: str) -> str:
    """Why no engine here can run a core, "" if one can."""
    found = core_named(core)
    reasons = [engines.unicorn_why_not(found), engines.qemu_why_not(found)]
    return "" if "" in reasons else "; ".join(reasons)


def deploy(
    folder: Path,
    inputs: Int8s,
    *,
    core: str = "",
    engine: Engine = "auto",
    compiler: str = "",
    counted: int = 1,
    by_layer: bool = False,
) -> Deployment:
    """Build an artifact for its core, run `inputs` on it, count the first `counted` inferences.

    folder: what `edgepress export --format c` wrote. inputs: [n, input bytes] int8, all inputs of a model side by side.
    compiler: "gcc", "zig" or "" for whichever is there. by_layer: run layer by layer and keep every layer's output
    (unicorn only). Raises MissingTool if nothing here can run it.
    """
    manifest = _manifest(folder)
    found = core_named(core or manifest["target"])
    width = sum(border["bytes"] for border in manifest["inputs"])
    rows = np.ascontiguousarray(inputs, np.int8).reshape(-1, width)
    chosen = _choose(found, "unicorn" if by_layer else engine)
    with tempfile.TemporaryDirectory(prefix="edgepress-") as name:
        work = Path(name)
        (work / "inputs.bin").write_bytes(rows.tobytes())
        job = engines.Job(folder.resolve(), manifest, found, work, len(rows), counted, by_layer)
        image = build.bare(job.folder, manifest, found, work, compiler=compiler)
        if chosen == "unicorn":
            ran, outcome = image, engines.run_unicorn(job, image)
        else:
            ran = build.bootable(job.folder, manifest, found, work, len(rows))
            outcome = engines.run_qemu(job, ran)
    return _deployment(job, chosen, image, ran, outcome)


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.is_file():
        raise UserError(f"{folder} is no C artifact", found="no manifest.json", expected="what export --format c wrote")
    manifest: dict[str, Any] = json.loads(path.read_text())
    if manifest.get("format") != "edgepress-c":
        raise UserError(f"{path} is not of a C artifact", found=str(manifest.get("format")), expected="edgepress-c")
    return manifest


def _choose(core: Core, engine: Engine) -> str:
    reasons = {"unicorn": engines.unicorn_why_not(core), "qemu": engines.qemu_why_not(core)}
    # qemu first where its toolchain is: it boots the real image and is ten times as fast.
    order = ["qemu", "unicorn"] if engine == "auto" else [engine]
    for name in order:
        if not reasons[name]:
            return name
    raise MissingTool(
        " or ".join(order),
        needed_for=f"running on {core.name} ({'; '.join(reasons[name] for name in order)})",
        install="pip install 'edgepress[edge]' (or apt-get install gcc-arm-none-eabi qemu-system-arm)",
    )


def _deployment(
    job: engines.Job, engine: str, image: build.Build, ran: build.Build, outcome: engines.Outcome
) -> Deployment:
    manifest = job.manifest
    width = sum(border["bytes"] for border in manifest["outputs"])
    if len(outcome.outputs) != width * job.vectors:
        raise ToolError(f"{engine} returned {len(outcome.outputs)} bytes", expected=f"{width * job.vectors}")
    names = {layer["function"]: layer["name"] for layer in manifest["layers"] if layer["function"]}
    raw = cycles.costs(ran.image, outcome.blocks, job.core.riscv)
    layers = {
        names.get(function, "entry"): Cost(
            cost.instructions // job.counted, cost.cycles // job.counted if job.core.cycles else 0
        )
        for function, cost in raw.items()
    }
    return Deployment(
        core=job.core.name,
        engine=engine,
        compiler=ran.compiler,
        outputs=np.frombuffer(outcome.outputs, np.int8).reshape(job.vectors, width),
        layers=layers,
        flash_bytes=image.image.flash_bytes,
        constant_bytes=manifest["constant_bytes"],
        static_ram_bytes=image.image.ram_bytes,
        arena_bytes=manifest["arena_bytes"],
        stack_bytes=outcome.stack_bytes,
        stack_bound_bytes=ran.stack_bound,
        layer_outputs=_layer_outputs(job, outcome) if job.by_layer else {},
    )


def _layer_outputs(job: engines.Job, outcome: engines.Outcome) -> dict[str, Int8s]:
    live = [layer for layer in job.manifest["layers"] if layer["function"]]
    rows = np.frombuffer(outcome.layer_outputs, np.int8).reshape(job.vectors, -1)
    parts = np.split(rows, np.cumsum([layer["output"]["bytes"] for layer in live])[:-1], axis=1)
    return {layer["name"]: part for layer, part in zip(live, parts, strict=True)}
