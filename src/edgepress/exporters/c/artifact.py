"""The folder that an export writes: sources, kernels, golden vectors, example, build files, README, manifest."""

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from edgepress.exporters.c import emit, graph
from edgepress.exporters.c.cores import CoreTarget
from edgepress.exporters.c.emit import Source
from edgepress.exporters.c.graph import Array
from edgepress.exporters.c.picture import plan_svg

PICTURE = "memory_plan.svg"
ARITHMETIC = {
    "double": "gemmlowp double rounding, as TensorFlow Lite Micro and CMSIS-NN compute.",
    "single": "One 64-bit product per output, rounded once, half up.",
}
STATELESS = "All state is in the arena."
STATEFUL = (
    "All state is in the arena, and goes on from run to run: call `{0}_reset(arena)` before the first of a sequence, "
    "and leave the arena alone until its last, but for the inputs."
)


@dataclass(frozen=True)
class CArtifact:
    """A written C library.

    Attributes:
        folder: where it lies. name: prefix of its symbols. manifest: the parsed manifest.json.
        arena_bytes: RAM for activations, scratch, inputs and outputs. constant_bytes: flash for weights and tables.
    """

    folder: Path
    name: str
    target: str
    arena_bytes: int
    constant_bytes: int
    manifest: dict[str, Any]


def write(source: Source, core: CoreTarget, out: Path, golden: list[tuple[Array, Array]], origin: Path) -> CArtifact:
    """Write everything below `out` (made if absent)."""
    manifest = _manifest(source, core, origin)
    files = {**_files(source, core, golden, origin), PICTURE: plan_svg(manifest)}
    manifest["files"] = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()}
    for name, text in files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    constants = sum(layer.constant_bytes for layer in source.layers)
    return CArtifact(out, source.prefix, core.name, source.plan.arena, constants, manifest)


def _files(source: Source, core: CoreTarget, golden: list[tuple[Array, Array]], origin: Path) -> dict[str, str]:
    p = source.prefix
    files = {
        f"{p}.h": emit.header_source(source),
        f"{p}.c": emit.model_source(source),
        f"{p}_weights.h": emit.weights_header(source),
        f"{p}_weights.c": emit.weights_source(source),
        f"{p}_golden.h": emit.golden_source(p, golden),
    }
    files |= {f"kernels/{name}": emit.kernel_text(name) for name in emit.kernel_files(source.layers)}
    words = _words(source, core, origin)
    files |= {name: _filled(name, words) for name in ("Makefile", "CMakeLists.txt", "README.md")}
    files |= {f"example/{name}": _filled(name, words) for name in ("main.c", "link.ld", "mlperf_tiny.c")}
    files[f"{p}_float.h"] = _filled("float.h", words)
    startup = "startup_riscv.c" if core.riscv else "startup_cortex_m.c"
    return files | {f"example/{name}": _template(name) for name in ("semihosting.h", startup)}


def _template(name: str) -> str:
    return resources.files("edgepress.exporters.c").joinpath("templates", name).read_text()


def _filled(name: str, words: dict[str, Any]) -> str:
    return Template(_template(name)).substitute(words)


def _words(source: Source, core: CoreTarget, origin: Path) -> dict[str, Any]:
    g = source.graph
    x, y = g.tensor(g.inputs[0]), g.tensor(g.outputs[0])
    system = "riscv32 -bios none" if core.riscv else "arm"
    system += " -cpu rv32,v=true" * (core.isa == "rvv")
    return {
        "name": source.prefix,
        "NAME": source.upper,
        "source": origin.name,
        "target": core.name,
        "input_bytes": x.nbytes,
        "output_bytes": y.nbytes,
        **_border_words(g, "input", g.inputs),
        **_border_words(g, "output", g.outputs),
        "numbers": " Token numbers (int32) are written as they are."
        if any(g.tensor(name).dtype == "int32" for name in g.inputs)
        else "",
        "input_text": _border_text(x),
        "output_text": _border_text(y),
        "arena": source.plan.arena,
        "lower_bound": source.plan.lower_bound,
        "disjoint": source.plan.disjoint,
        "constants": sum(layer.constant_bytes for layer in source.layers),
        "layers": len(source.layers),
        "macs": sum(graph.macs(g, op) for op in g.ops),
        "dead": f" {source.dead} channels that no input changes or nothing reads were taken out." * bool(source.dead),
        "reset": f"    {source.prefix}_reset(arena);\n" * emit.keeps_state(source),
        "state": STATEFUL.format(source.prefix) if emit.keeps_state(source) else STATELESS,
        "arithmetic": ARITHMETIC[source.rounding],
        "table": "\n".join(_layer_row(source, i) for i in range(len(source.layers))),
        "gcc": core.gcc,
        "gcc_flags": " ".join(core.flags),
        "startup": "startup_riscv.c" if core.riscv else "startup_cortex_m.c",
        "board": core.board or "no board",
        "flash_origin": hex(core.flash[0]),
        "flash_length": hex(core.flash[1]),
        "ram_origin": hex(core.ram[0]),
        "ram_length": hex(core.ram[1]),
        "qemu": f"qemu-system-{system} -M {core.board} -nographic -monitor none -serial none "
        "-semihosting-config enable=on,target=native -kernel example.elf",
    }


def _border_words(g: graph.Graph, side: str, names: tuple[str, ...]) -> dict[str, str]:
    """Sizes, scales and zero points of all inputs or outputs, as initialisers."""
    tensors = [g.tensor(name) for name in names]
    return {
        f"{side}_sizes": ", ".join(str(t.nbytes) for t in tensors),
        f"{side}_scales": ", ".join(emit.float_text(t.scale[0]) for t in tensors),
        f"{side}_zeros": ", ".join(str(t.zero_point) for t in tensors),
    }


def _border_text(tensor: graph.Tensor) -> str:
    return f"{'x'.join(map(str, tensor.shape))}, scale {tensor.scale[0]:.6g}, zero point {tensor.zero_point}"


def _layer_row(source: Source, index: int) -> str:
    layer = source.layers[index]
    macs = graph.macs(source.graph, layer.op)
    at = source.plan.offsets[layer.op.output]
    cells = (layer.op.name, type(layer.op).__name__, layer.kernel, macs, layer.constant_bytes, layer.scratch, at)
    return "| " + " | ".join(map(str, cells)) + " |"


def _manifest(source: Source, core: CoreTarget, origin: Path) -> dict[str, Any]:
    plan = source.plan
    return {
        "format": "edgepress-c",
        "version": 1,
        "name": source.prefix,
        "source": {"file": origin.name, "sha256": hashlib.sha256(origin.read_bytes()).hexdigest()},
        "target": core.name,
        "isa": core.isa,
        "rounding": source.rounding,
        "arena_bytes": plan.arena,
        "arena_lower_bound_bytes": plan.lower_bound,
        "arena_without_overlap_bytes": plan.disjoint,
        "constant_bytes": sum(layer.constant_bytes for layer in source.layers),
        "dead_channels": source.dead,
        "keeps_state": emit.keeps_state(source),
        "inputs": [_border(source, name) for name in source.graph.inputs],
        "outputs": [_border(source, name) for name in source.graph.outputs],
        "layers": [_layer(source, i) for i in range(len(source.layers))],
        "buffers": [{**asdict(buffer), "offset": plan.offsets[buffer.name]} for buffer in plan.buffers],
        "sources": [f"{source.prefix}.c", f"{source.prefix}_weights.c"],
    }


def _border(source: Source, name: str) -> dict[str, Any]:
    tensor = source.graph.tensor(name)
    return {
        "name": name,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "channels_last": name in source.graph.channels_last,
        "scale": tensor.scale[0],
        "zero_point": tensor.zero_point,
        "bytes": tensor.nbytes,
        "offset": source.plan.offsets[name],
    }


def _layer(source: Source, index: int) -> dict[str, Any]:
    layer = source.layers[index]
    return {
        "name": layer.op.name,
        "op": type(layer.op).__name__,
        "kernel": layer.kernel,
        "note": layer.note,
        "function": emit.layer_function(source, index) if layer.calls else "",
        "macs": graph.macs(source.graph, layer.op),
        "constant_bytes": layer.constant_bytes,
        "scratch_bytes": layer.scratch,
        "output": {
            "offset": source.plan.offsets[layer.op.output],
            "bytes": source.graph.tensor(layer.op.output).nbytes,
        },
    }
