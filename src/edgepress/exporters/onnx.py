"""Export a program as ONNX: small, deterministic, and in the forms that runtimes fuse."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from edgepress.errors import UserError
from edgepress.exporters.onnx_carry import carry_integers
from edgepress.exporters.onnx_graph import GraphBuilder, NotTranslated, output_nodes
from edgepress.exporters.onnx_low_bits import PACKED_SINCE, axes_as_inputs, pack_low_bits
from edgepress.exporters.onnx_table import translate
from edgepress.ir.program import Program
from edgepress.passes.drop_identity import drop_identity
from edgepress.passes.fold_batchnorm import fold_batchnorm
from edgepress.passes.store_integers import store_integers

OPSET = 17  # the lowest with LayerNormalization; understood by runtimes since 2022
OPSETS = range(13, 26)
BLOCKS_SINCE = 21  # DequantizeLinear with block_size


@dataclass(frozen=True)
class OnnxArtifact:
    """A written ONNX file.

    Attributes:
        path: where. digest: sha256 of its bytes. manifest: what it is and what it was made from (JSON-able).
    """

    path: Path
    digest: str
    manifest: Mapping[str, object]


def export_onnx(
    program: Program, path: Path, *, opset: int = OPSET, metadata: Mapping[str, str] | None = None
) -> OnnxArtifact:
    """Write `program` to `path`. Equal programs give equal bytes.

    Batch norms are folded, dropout is dropped and quantized weights are stored as integers: in four bits from opset 21
    on where they fit, in two from opset 25 on. Scales of blocks need opset 21 and raise a lower one to it. Operators
    without a translation of ours go through `torch.onnx`.

    Raises:
        UserError: neither can translate the program, or the file cannot be written.
    """
    if opset not in OPSETS:
        raise UserError(f"cannot write opset {opset}", found=str(opset),
                        expected=f"{OPSETS[0]} to {OPSETS[-1]}", fix=f"use {OPSET}")  # fmt: skip
    opset = max(opset, BLOCKS_SINCE) if _has_blocks(program) else opset
    ready = store_integers(fold_batchnorm(drop_identity(program).program).program).program
    model, exporter = _model(ready, opset, metadata or {})
    if _target(program).startswith("onnxruntime"):
        model = carry_integers(model)
    if opset >= PACKED_SINCE[4]:
        model = pack_low_bits(model)
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString(deterministic=True)
    _write(path, content)
    digest = hashlib.sha256(content).hexdigest()
    return OnnxArtifact(path, digest, _manifest(program, model, digest, len(content), exporter))


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

        return torch_model(program, metadata, str(reason)), f"torch.onnx (no translation of {reason})"


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


def _has_blocks(program: Program) -> bool:
    """Whether weights of the program have scales for blocks of their rows."""
    plan = program.plans.get("quantize")
    return isinstance(plan, Mapping) and any(weight.get("block") for weight in plan.get("weights", ()))


def _target(program: Program) -> str:
    """The capability table the program was quantized for, or ""."""
    plan = program.plans.get("quantize")
    return str(plan.get("target", "")) if isinstance(plan, Mapping) else ""


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}", found=str(error), expected="a writable place",
                        fix="choose another --out") from error  # fmt: skip


def _manifest(program: Program, model: onnx.ModelProto, digest: str, size: int, exporter: str) -> dict[str, object]:
    counts: dict[str, int] = {}
    for node in model.graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return {
        "format": "onnx",
        "sha256": digest,
        "size_bytes": size,
        "opset": model.opset_import[0].version,
        "inputs": list(program.input_names),
        "outputs": list(program.output_names),
        "program": program.digest(),
        "exporter": exporter,
        "operators": dict(sorted(counts.items())),
        "onnx": onnx.__version__,
    }
