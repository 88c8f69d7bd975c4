"""Export a program as ONNX: small, deterministic, and in the forms that runtimes fuse."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import onnx

from edgepress.errors import UserError
from edgepress.exporters.onnx_carry import carry_integers
from edgepress.exporters.onnx_file import EXTERNAL_ABOVE, Written, write_model
from edgepress.exporters.onnx_graph import GraphBuilder, NotTranslated, output_nodes
from edgepress.exporters.onnx_guard import keep_softmax_float
from edgepress.exporters.onnx_half import KeepFloat, Kept, to_half
from edgepress.exporters.onnx_low_bits import PACKED_SINCE, axes_as_inputs, pack_low_bits
from edgepress.exporters.onnx_table import translate
from edgepress.exporters.shipping import shipping_form
from edgepress.ir.program import BATCH, Program

OPSET = 17  # the lowest with LayerNormalization; understood by runtimes since 2022
OPSETS = range(13, 26)
BLOCKS_SINCE = 21  # DequantizeLinear with block_size
FLOAT8_SINCE = 19  # QuantizeLinear to float8


@dataclass(frozen=True)
class OnnxArtifact:
    """A written ONNX file.

    Attributes:
        path: where. digest: sha256 of its bytes. manifest: what it is and what it was made from (JSON-able).
        kept: nodes that stayed float32 although 16 bits were asked for.
    """

    path: Path
    digest: str
    manifest: Mapping[str, object]
    kept: tuple[Kept, ...] = ()


@dataclass(frozen=True)
class OnnxOptions:
    """How a model is written.

    Attributes:
        opset: version of the operator set. precision: number format of what is not quantized; keep: what stays float32.
        peaks: tensor -> largest magnitude seen on samples; what float16 cannot hold stays float32.
        batch: a fixed batch size in place of the free one. external_above: bytes of weights from which on they lie in
            a file of their own. metadata: key -> value, put into the file; program hash and version come with it.
    """

    opset: int = OPSET
    precision: Literal["float32", "float16", "bfloat16"] = "float32"
    keep: KeepFloat = field(default_factory=KeepFloat)
    peaks: Mapping[str, float] = field(default_factory=dict)
    batch: int | None = None
    external_above: int = EXTERNAL_ABOVE
    metadata: Mapping[str, str] = field(default_factory=dict)


def export_onnx(
    program: Program,
    path: Path,
    *,
    opset: int = OPSET,
    metadata: Mapping[str, str] | None = None,
    options: OnnxOptions | None = None,
) -> OnnxArtifact:
    """Write `program` to `path`. Equal programs give equal bytes.

    Batch norms are folded, dropout is dropped and quantized weights are stored as integers: in four bits from opset 21
    on where they fit, in two from opset 25 on. Scales of blocks need opset 21, float8 needs 19; they raise a lower one.
    Operators without a translation of ours go through `torch.onnx`.

    Args:
        opset, metadata: the same as in `options`, which says everything else and counts alone where it is given.

    Raises:
        UserError: neither can translate the program, it cannot be had in 16 bits, or the file cannot be written.
    """
    options = options or OnnxOptions(opset=opset, metadata=metadata or {})
    if options.opset not in OPSETS:
        raise UserError(f"cannot write opset {options.opset}", found=str(options.opset),
                        expected=f"{OPSETS[0]} to {OPSETS[-1]}", fix=f"use {OPSET}")  # fmt: skip
    opset = max(options.opset, *_needed(program))
    ready = shipping_form(program)
    model, exporter = _model(ready, opset, options.metadata)
    if _target(program).startswith("onnxruntime"):
        model = keep_softmax_float(carry_integers(model))
    if opset >= PACKED_SINCE[4]:
        model = pack_low_bits(model, casts=_target(program).startswith("onnxruntime"))
    kept: tuple[Kept, ...] = ()
    if options.precision != "float32":
        model, kept = to_half(model, options.precision, options.keep, options.peaks)
    if options.batch is not None:
        _fix_batch(model, options.batch)
    manifest = _manifest(program, model, exporter)
    written = write_model(model, path, options.external_above)
    return OnnxArtifact(path, written.digest, _signed(manifest, written, options.precision), kept)


def _fix_batch(model: onnx.ModelProto, batch: int) -> None:
    for value in (*model.graph.input, *model.graph.output):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param == BATCH:
                size.dim_value = batch


def build_model(program: Program, opset: int = OPSET, metadata: Mapping[str, str] | None = None) -> onnx.ModelProto:
    """The ONNX model of a program, with our own translations only.

    Raises:
        NotTranslated: an operator, or a form of one, that has none.
    """
    builder = GraphBuilder(program)
    for node in program.nodes:
        translate(builder, node)
    for node, name in zip(output_nodes(program), program.output_names, strict=True):
        builder.emit("Identity", [builder.name(node)], out=name)
    model = _without_identities(builder.model(opset, metadata or {}))
    return axes_as_inputs(model) if opset >= 18 else model


def _model(program: Program, opset: int, metadata: Mapping[str, str]) -> tuple[onnx.ModelProto, str]:
    try:
        return build_model(program, opset, metadata), "edgepress"
    except NotTranslated as reason:
        from edgepress.exporters.onnx_torch import torch_model

        return torch_model(program, opset, metadata, str(reason)), f"torch.onnx (no translation of {reason})"


def _without_identities(model: onnx.ModelProto) -> onnx.ModelProto:
    """Outputs take over the name of the node that computes them where nobody else reads it."""
    graph = model.graph
    readers: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    makers = {name: node for node in graph.node for name in node.output}
    for node in [n for n in graph.node if n.op_type == "Identity"]:
        source, target = node.input[0], node.output[0]
        if source in makers and readers[source] == 1:
            outputs = makers[source].output
            outputs[list(outputs).index(source)] = target
            makers[target] = makers[source]
            graph.node.remove(node)
    return model


def _needed(program: Program) -> Iterator[int]:
    """Opsets that the formats of the program's numbers need."""
    yield OPSETS[0]
    plan = program.plans.get("quantize")
    weights = plan.get("weights", ()) if isinstance(plan, Mapping) else ()
    for weight in weights:
        yield BLOCKS_SINCE if weight.get("block") else OPSETS[0]
        yield FLOAT8_SINCE if weight["grid"]["dtype"] == "float8e4m3fn" else OPSETS[0]


def _target(program: Program) -> str:
    """The capability table the program was quantized for, or ""."""
    plan = program.plans.get("quantize")
    return str(plan.get("target", "")) if isinstance(plan, Mapping) else ""


def _manifest(program: Program, model: onnx.ModelProto, exporter: str) -> dict[str, object]:
    counts: dict[str, int] = {}
    for node in model.graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return {
        "format": "onnx",
        "opset": model.opset_import[0].version,
        "inputs": list(program.input_names),
        "outputs": list(program.output_names),
        "program": program.digest(),
        "exporter": exporter,
        "operators": dict(sorted(counts.items())),
        "onnx": onnx.__version__,
    }


def _signed(manifest: dict[str, object], written: Written, precision: str) -> dict[str, object]:
    return {**manifest, "precision": precision, "sha256": written.digest, "size_bytes": written.size_bytes}
