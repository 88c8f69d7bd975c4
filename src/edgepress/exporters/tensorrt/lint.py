"""What TensorRT would reject in an ONNX graph, and where it would leave speed on the table, told without TensorRT.

Sources: the operator list of ONNX-TensorRT, and "Explicit Quantization" and "Working with Quantized Types" of the
TensorRT 10 and 11 documentation: symmetric quantization only (zero points are 0), INT8, FP8 and INT4 types, scales
known when the engine is built, weights per channel along the output axis, activations per tensor, biases not quantized.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx
from onnx import TensorProto, numpy_helper

from edgepress.errors import UserError
from edgepress.exporters.tensorrt.options import Profile

# Standard operators that have no importer.
NO_IMPORTER = frozenset([
    "Bernoulli", "BitShift", "BlackmanWindow", "CenterCropPad", "Col2Im", "ConcatFromSequence", "ConvInteger", "DFT",
    "Det", "DynamicQuantizeLinear", "HammingWindow", "HannWindow", "MatMulInteger", "MaxRoiPool", "MaxUnpool",
    "MelWeightMatrix", "Multinomial", "NegativeLogLikelihoodLoss", "Optional", "OptionalGetElement",
    "OptionalHasElement", "QLinearConv", "QLinearMatMul", "STFT", "SequenceAt", "SequenceConstruct", "SequenceEmpty",
    "SequenceErase", "SequenceInsert", "SequenceLength", "SequenceMap", "SoftmaxCrossEntropyLoss", "SplitToSequence",
    "StringNormalizer", "TfIdfVectorizer", "Unique",
])  # fmt: skip
NO_TYPE = {
    TensorProto.STRING: "string",
    TensorProto.COMPLEX64: "complex64",
    TensorProto.COMPLEX128: "complex128",
    TensorProto.INT16: "int16",
    TensorProto.UINT16: "uint16",
    TensorProto.UINT32: "uint32",
    TensorProto.UINT64: "uint64",
}
QUANTIZED = {TensorProto.INT8, TensorProto.FLOAT8E4M3FN, getattr(TensorProto, "INT4", 22)}
# Operator -> axis of its weight (input 1) that per-channel scales run along. MatMul's weight is (in, out).
WEIGHT_AXIS = {"Conv": 0, "ConvTranspose": 1}
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")

Kind = Literal["rejected", "unfused", "narrowed", "missing profile"]


@dataclass(frozen=True)
class Finding:
    """One thing TensorRT would stumble over.

    Attributes:
        kind: "rejected": no engine; "missing profile": none either, until one is given; "unfused": it runs, slower than
            it could, in float; "narrowed": it runs with less precision than the graph says.
    """

    kind: Kind
    node: str
    found: str
    needed: str


def lint(path: Path, profiles: Mapping[str, Profile] | None = None) -> tuple[Finding, ...]:
    """Everything TensorRT would reject, narrow or leave unfused in the ONNX file, in the order of the graph.

    Args:
        profiles: shapes of inputs with free dimensions.

    Raises:
        UserError: not an ONNX file.
    """
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's errors are not exported
        raise UserError(f"{path} is not an ONNX file", found=str(error).splitlines()[0]) from None
    graph = Graph(model.graph)
    return (
        *_inputs(model.graph, profiles or {}),
        *_types(model.graph),
        *(finding for node in model.graph.node for finding in _node(node, graph)),
    )


class Graph:
    """Who makes a tensor, who reads it, and the constants."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.maker = {output: node for node in graph.node for output in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            value = next((a.t for a in node.attribute if a.name == "value"), None)
            if node.op_type == "Constant" and value is not None:
                self.constants[node.output[0]] = value

    def dequantized(self, name: str) -> onnx.NodeProto | None:
        """The DequantizeLinear that makes this tensor, if one does."""
        maker = self.maker.get(name)
        return maker if maker is not None and maker.op_type == "DequantizeLinear" else None


def _inputs(graph: onnx.GraphProto, profiles: Mapping[str, Profile]) -> Iterator[Finding]:
    """Every real input with a free dimension needs a profile that fits."""
    constants = {tensor.name for tensor in graph.initializer}
    inputs = {value.name: value.type.tensor_type.shape for value in graph.input if value.name not in constants}
    for name in profiles.keys() - inputs.keys():
        yield Finding("missing profile", name, "a profile for an input that is not there", ", ".join(inputs))
    for name, shape in inputs.items():
        sizes = [d.dim_value if d.HasField("dim_value") else None for d in shape.dim]
        profile = profiles.get(name)
        if profile is None and None in sizes:
            text = "x".join("?" if size is None else str(size) for size in sizes)
            yield Finding("missing profile", name, f"free dimensions in {text}", "least, best and most shape")
        elif profile is not None and not _fits(profile, sizes):
            yield Finding("missing profile", name, f"a profile {profile.best} that does not fit", str(sizes))


def _fits(profile: Profile, sizes: list[int | None]) -> bool:
    if len(profile.best) != len(sizes):
        return False
    rows = zip(profile.least, profile.most, sizes, strict=True)
    return all(size is None or low == high == size for low, high, size in rows)


def _types(graph: onnx.GraphProto) -> Iterator[Finding]:
    tensors = [(tensor.name, tensor.data_type) for tensor in graph.initializer]
    tensors += [(value.name, value.type.tensor_type.elem_type) for value in (*graph.input, *graph.output)]
    for name, kind in tensors:
        if kind in NO_TYPE:
            yield Finding(
                "rejected", name, f"type {NO_TYPE[kind]}", "float, half, bfloat16, int8, int32, int64 or bool"
            )
        elif kind == TensorProto.DOUBLE:
            yield Finding("narrowed", name, "type double", "float: TensorRT casts it down")


def _node(node: onnx.NodeProto, graph: Graph) -> Iterator[Finding]:
    name = node.name or f"{node.op_type} making {node.output[0]}"
    if node.domain not in ("", "ai.onnx", "trt.plugins"):
        yield Finding(
            "rejected", name, f"{node.domain}.{node.op_type}", "a standard operator, or a plugin for this one"
        )
    elif node.op_type in NO_IMPORTER:
        yield Finding("rejected", name, node.op_type, "an operator that TensorRT imports")
    elif node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        yield from _quantization(node, name, graph)
    elif node.op_type in WEIGHTED:
        yield from _weighted(node, name, graph)
    elif node.op_type == "Add":
        yield from _residual(node, name, graph)
    elif node.op_type == "MaxPool" and len(node.output) > 1 and node.output[1]:
        yield Finding("rejected", name, "MaxPool with its Indices output", "MaxPool with one output")


def _quantization(node: onnx.NodeProto, name: str, graph: Graph) -> Iterator[Finding]:
    if node.input[1] not in graph.constants:
        yield Finding("rejected", name, "a scale that is computed", "a constant scale")
    zero = graph.constants.get(node.input[2]) if len(node.input) > 2 else None
    kind = zero.data_type if zero is not None else TensorProto.UINT8  # ONNX's default without a zero point
    if node.op_type == "DequantizeLinear" and node.input[0] in graph.constants:
        kind = graph.constants[node.input[0]].data_type
    if kind == TensorProto.INT32:
        yield Finding("rejected", name, "a quantized bias (int32)", "a float bias: TensorRT quantizes it itself")
    elif kind not in QUANTIZED:
        found = TensorProto.DataType.Name(kind).lower()
        yield Finding("rejected", name, f"quantized to {found}", "int8, float8e4m3fn or int4")
    elif zero is not None and numpy_helper.to_array(zero).astype(float).any():
        yield Finding("rejected", name, "a zero point that is not 0", "symmetric quantization")


def _weighted(node: onnx.NodeProto, name: str, graph: Graph) -> Iterator[Finding]:
    """Integer kernels need Q/DQ on activation and weight both; scales per tensor there, per output channel here."""
    activation, weight = graph.dequantized(node.input[0]), graph.dequantized(node.input[1])
    if weight is not None and activation is None:
        yield Finding("unfused", name, f"{node.op_type} with quantized weights and float activations", "both quantized")
    if activation is not None and weight is None:
        yield Finding("unfused", name, f"{node.op_type} with quantized activations and float weights", "both quantized")
    if activation is not None and _channels(activation, graph) > 1:
        yield Finding("unfused", name, "activations quantized per channel", "one scale per activation tensor")
    wanted = WEIGHT_AXIS.get(node.op_type)
    if weight is not None and wanted is not None and _channels(weight, graph) > 1 and _axis(weight) != wanted:
        yield Finding("unfused", name, f"weight scales along axis {_axis(weight)}", f"along axis {wanted}")


def _residual(node: onnx.NodeProto, name: str, graph: Graph) -> Iterator[Finding]:
    """A convolution absorbs the addition after it if the other branch is quantized."""
    makers = [graph.maker.get(source) for source in node.input]
    convolution = [m is not None and m.op_type == "Conv" and graph.dequantized(m.input[0]) is not None for m in makers]
    if not any(convolution):
        return
    other = node.input[1 - convolution.index(True)]
    if other in graph.constants or graph.dequantized(other) is not None:
        return
    yield Finding("unfused", name, "an addition to a quantized convolution whose other branch is float", "Q/DQ on it")


def _channels(node: onnx.NodeProto, graph: Graph) -> int:
    scale = graph.constants.get(node.input[1])
    return 1 if scale is None else int(numpy_helper.to_array(scale).size)


def _axis(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
