"""The way in: a quantized model file becomes a folder of C."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from edgepress.errors import UserError
from edgepress.exporters.c import artifact, cores, interpret, onnx_qdq, portable_sequences, select, tflite
from edgepress.exporters.c.arithmetic import Rounding
from edgepress.exporters.c.artifact import CArtifact
from edgepress.exporters.c.dead_channels import channels, without_dead_channels
from edgepress.exporters.c.emit import Source
from edgepress.exporters.c.graph import Array, Graph
from edgepress.exporters.c.plan import check, plan_memory
from edgepress.exporters.c.rewrite import rewritten

READERS = {".onnx": onnx_qdq.read, ".tflite": tflite.read}


@dataclass(frozen=True)
class Options:
    """How to generate.

    Attributes:
        target: a name of `cores.CORES`. name: prefix of all symbols, a C identifier.
        rounding: "double" (TFLM, CMSIS-NN) or "single". specialise: one copy of each kernel per layer: faster, larger.
        four_bit: layers with weights of four bits (quantized to them) keep two in a byte: half the flash, slower.
        keep_dead: channels that no input changes, or that nothing reads, stay (see dead_channels).
        keep_state: recurrent layers go on from run to run, until the model's reset function is called.
        golden: how many golden vectors to write (seeded random inputs unless `golden_inputs` are given, [n, ...] int8).
    """

    target: str = "cortex-m4"
    name: str = "model"
    rounding: Rounding = "double"
    specialise: bool = False
    four_bit: bool = False
    keep_dead: bool = False
    keep_state: bool = False
    golden: int = 2
    golden_inputs: Array | None = None
    seed: int = 0


def read_graph(source: Path) -> Graph:
    """The integer graph of a `.onnx` (QDQ) or `.tflite` file. Raises UserError naming the node that cannot be taken."""
    if source.suffix not in READERS:
        raise UserError(
            f"{source} cannot be exported to C", found=source.suffix or "no suffix", expected=", ".join(READERS)
        )
    if not source.is_file():
        raise UserError(f"{source} does not exist", expected="a quantized model file")
    return READERS[source.suffix](source)


def export(source: Path, out: Path, *, options: Options | None = None) -> CArtifact:
    """Generate C for a quantized model.

    source: int8 QDQ `.onnx` or int8 `.tflite`. out: folder to write to. Everything is decided before the first file is
    written; raises UserError naming the node for what has no integer form, or for options that make no sense.
    """
    options = options or Options()
    return export_graph(read_graph(source), source, out, options=options)


def export_graph(graph: Graph, source: Path, out: Path, *, options: Options) -> CArtifact:
    """As `export`, from a graph already read from `source`."""
    core = cores.core_named(options.target)
    _check(options)
    alive = graph if options.keep_dead else without_dead_channels(graph, options.rounding)
    work = rewritten(alive)
    layers = select.lower(work, core.isa, options.rounding, four_bit=options.four_bit)
    if options.keep_state:
        layers = portable_sequences.keeping_state(layers)
    plan = plan_memory(work, layers)
    check(work, layers, plan)
    defines = ["EP_SINGLE_ROUNDING 1"] * (options.rounding == "single") + ["EP_SPECIALISE 1"] * options.specialise
    dead = channels(graph) - channels(alive)
    text = Source(options.name, work, layers, plan, tuple(defines), core.name, options.rounding, dead)
    return artifact.write(text, core, out, golden_vectors(graph, options), source)


def _check(options: Options) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", options.name):
        raise UserError("the C name is no identifier", found=options.name, expected="lower-case letters, digits, _")
    if options.rounding not in get_args(Rounding):
        raise UserError("unknown rounding", found=options.rounding, expected=", ".join(get_args(Rounding)))
    if options.golden < 1:
        raise UserError("too few golden vectors", found=str(options.golden), expected="at least 1")


def golden_vectors(graph: Graph, options: Options) -> list[tuple[Array, Array]]:
    """(inputs, outputs) per vector, each concatenated over the graph's inputs or outputs."""
    sizes = [graph.tensor(name).nbytes for name in graph.inputs]
    draw = np.random.default_rng(options.seed)
    rows = draw.integers(-128, 128, (options.golden, sum(sizes)))
    if options.golden_inputs is not None:
        rows = np.asarray(options.golden_inputs, np.int64).reshape(-1, sum(sizes))
    rows = rows.astype(np.int8)
    if options.keep_state:
        return list(zip(rows, one_after_another(graph, rows, options.rounding), strict=True))
    return [(row, reference(graph, row, options.rounding)) for row in rows]


def reference(graph: Graph, row: Array, rounding: Rounding = "double") -> Array:
    """The integer reference's int8 outputs for one flat input row, concatenated. Token numbers are four bytes each."""
    return one_after_another(graph, [row], rounding)[0]


def one_after_another(graph: Graph, rows: Iterable[Array], rounding: Rounding = "double") -> list[Array]:
    """`reference` of each row, recurrent layers going on from where the row before left them."""
    found, values = [], None
    for row in rows:
        values = interpret.run(graph, _inputs(graph, row), rounding, values)
        found.append(np.concatenate([values[name].reshape(-1) for name in graph.outputs]).astype(np.int8))
    return found


def _inputs(graph: Graph, row: Array) -> dict[str, Array]:
    tensors = [graph.tensor(name) for name in graph.inputs]
    parts = np.split(np.asarray(row).reshape(-1), np.cumsum([t.nbytes for t in tensors])[:-1])
    return {t.name: p.astype(np.int8).view(t.dtype) for t, p in zip(tensors, parts, strict=True)}
