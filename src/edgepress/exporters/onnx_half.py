"""Let an ONNX model compute in 16 bits, except where that would lose something; what stays float says why.

A node is converted if the standard lets it (its version of the operator takes the type), nobody asked for it to stay,
its weights fit, and what flows through it fits on the samples that were looked at. Casts stand where the two meet.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgepress.errors import UserError

Half = Literal["float16", "bfloat16"]
ELEMENT = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
# Convolutions take bfloat16 from this opset on.
BFLOAT16_OPSET = 22
LARGEST_HALF = 65504.0
QUANTIZATION = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class KeepFloat:
    """What stays in 32 bits.

    Attributes:
        ops: operators ("Softmax"). names: regular expressions for the whole name of a node or of what it computes.
        borders: inputs and outputs of the model stay float32, so that its callers need not change.
    """

    ops: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    borders: bool = True


class Kept(NamedTuple):
    """A node that stays float: what it is called, and why."""

    node: str
    reason: str


def to_half(
    model: onnx.ModelProto, precision: Half, keep: KeepFloat = KeepFloat(), peaks: Mapping[str, float] | None = None
) -> tuple[onnx.ModelProto, tuple[Kept, ...]]:
    """The model in 16 bits, and the nodes that stay float. `model` itself is used up.

    Args:
        peaks: tensor -> largest magnitude seen on samples: nodes whose values do not fit float16 stay float.

    Raises:
        UserError: the model has control flow, a name is no regular expression, or nothing is left to convert.
    """
    if precision == "bfloat16" and _opset(model) < BFLOAT16_OPSET:
        model = onnx.version_converter.convert_version(model, BFLOAT16_OPSET)
    _refuse_control_flow(model)
    conversion = _Conversion(model, precision, keep, peaks or {})
    return conversion.convert(), tuple(conversion.kept)


def overflowing(peaks: Mapping[str, float]) -> dict[str, float]:
    """Those tensors whose largest magnitude float16 cannot hold."""
    return {name: peak for name, peak in peaks.items() if not peak <= LARGEST_HALF}


class _Conversion:
    """One model on its way. `_now` says in which type each float tensor is available under which name."""

    def __init__(self, model: onnx.ModelProto, precision: Half, keep: KeepFloat, peaks: Mapping[str, float]) -> None:
        self._model, self._graph = model, model.graph
        self._precision, self._keep, self._peaks = precision, keep, peaks
        self._half = ELEMENT[precision]
        self._patterns = _patterns(keep.names)
        self._constants_become_weights()
        self._floats = _float_tensors(model)
        self._weights = {t.name: t for t in self._graph.initializer if t.data_type == TensorProto.FLOAT}
        self._quantized = _beside_quantization(self._graph)
        self._names: dict[tuple[str, int], str] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._made: list[onnx.TensorProto] = []
        self._placed: set[str] = set()
        self.kept: list[Kept] = []

    def convert(self) -> onnx.ModelProto:
        for value in self._graph.input:
            if value.name in self._floats and value.name not in self._weights:
                self._enter(value)
        for node in list(self._graph.node):
            self._convert(node)
        if not any(kind == self._half for _, kind in self._names):
            found = f"{self.kept[0].node}: {self.kept[0].reason}" if self.kept else "no float operator"
            raise UserError(f"nothing in the model can be {self._precision}", found=found)
        for value in self._graph.output:
            self._leave(value)
        return self._finished()

    # -- one node ------------------------------------------------------------------------------------------------

    def _convert(self, node: onnx.NodeProto) -> None:
        slots = _slots(node, _opset(self._model), self._precision)
        floats = [i for i, name in enumerate(node.input) if name in self._floats]
        reason = self._why_float(node, slots, floats)
        if reason and (floats or any(name in self._floats for name in node.output)):
            self.kept.append(Kept(_called(node), reason))
        for position in floats:
            wanted = self._half if not reason and slots.inputs[position] else TensorProto.FLOAT
            node.input[position] = self._as(node.input[position], wanted)
        if _casts_to_float(node) and not reason:
            next(a for a in node.attribute if a.name == "to").i = self._half
        for position, name in enumerate(node.output):
            if name in self._floats:
                kind = self._half if not reason and slots.outputs[position] else TensorProto.FLOAT
                self._names[name, kind] = name
        self._nodes.append(node)

    def _why_float(self, node: onnx.NodeProto, slots: "_Slots", floats: list[int]) -> str:
        """Why the node stays in 32 bits, "" if it does not."""
        if not any(slots.inputs[i] for i in floats) and not _casts_to_float(node):
            return f"{node.op_type} has no {self._precision} form at opset {_opset(self._model)}"
        if node.output[0] in self._quantized:
            return "it is beside QuantizeLinear or DequantizeLinear: runtimes fuse those in float"
        if node.op_type in self._keep.ops:
            return f"{node.op_type} is kept float"
        named = next((p.pattern for p in self._patterns for n in (node.name, *node.output) if p.fullmatch(n)), None)
        if named is not None:
            return f"its name matches {named!r}"
        return self._overflow(node) if self._precision == "float16" else ""

    def _overflow(self, node: onnx.NodeProto) -> str:
        for name in node.input:
            if name in self._weights and (largest := _largest(self._weights[name])) > LARGEST_HALF:
                return f"its weight {name} reaches {largest:.3g}, over float16's {LARGEST_HALF:g}"
        for name in (*node.input, *node.output):
            if not self._peaks.get(name, 0.0) <= LARGEST_HALF:
                return f"{name} reaches {self._peaks[name]:.3g} on the samples, over float16's {LARGEST_HALF:g}"
        return ""

    # -- tensors -------------------------------------------------------------------------------------------------

    def _as(self, name: str, kind: int) -> str:
        """The name under which a float tensor is available in that type, through a cast if need be."""
        if (name, kind) not in self._names:
            self._names[name, kind] = self._weight(name, kind) if name in self._weights else self._cast(name, kind)
        return self._names[name, kind]

    def _weight(self, name: str, kind: int) -> str:
        """The weight in that type. Who asks first gets it under its own name."""
        array = numpy_helper.to_array(self._weights[name])
        array = array if kind == TensorProto.FLOAT else _narrowed(array, self._precision)
        placed = self._fresh(name) if name in self._placed else name
        self._placed.add(name)
        self._made.append(numpy_helper.from_array(array, placed))
        return placed

    def _cast(self, name: str, kind: int) -> str:
        other = self._half if kind == TensorProto.FLOAT else TensorProto.FLOAT
        target = self._fresh(name)
        self._nodes.append(helper.make_node("Cast", [self._names[name, other]], [target], to=kind))
        return target

    def _fresh(self, name: str) -> str:
        suffix = "_h"
        while name + suffix in self._floats:
            suffix += "h"
        return name + suffix

    # -- borders -------------------------------------------------------------------------------------------------

    def _enter(self, value: onnx.ValueInfoProto) -> None:
        kind = TensorProto.FLOAT if self._keep.borders else self._half
        value.type.tensor_type.elem_type = kind
        self._names[value.name, kind] = value.name

    def _leave(self, value: onnx.ValueInfoProto) -> None:
        """The output in the type it is promised in; its name stays with that type."""
        if value.name not in self._floats:
            return
        kind, other = TensorProto.FLOAT, self._half
        if not self._keep.borders:
            kind, other = other, kind
        value.type.tensor_type.elem_type = kind
        if (value.name, other) in self._names and self._names[value.name, other] == value.name:
            inner = self._fresh(value.name)
            self._rename(value.name, inner)
            self._nodes.append(helper.make_node("Cast", [inner], [value.name], to=kind))

    def _rename(self, old: str, new: str) -> None:
        for node in self._nodes:
            for names in (node.input, node.output):
                names[:] = [new if name == old else name for name in names]

    # -- the whole -----------------------------------------------------------------------------------------------

    def _constants_become_weights(self) -> None:
        for node in [n for n in self._graph.node if n.op_type == "Constant"]:
            tensor = next((a.t for a in node.attribute if a.name == "value"), None)
            if tensor is not None and tensor.data_type == TensorProto.FLOAT:
                weight = self._graph.initializer.add()
                weight.CopyFrom(tensor)
                weight.name = node.output[0]
                self._graph.node.remove(node)

    def _finished(self) -> onnx.ModelProto:
        others = [t for t in self._graph.initializer if t.data_type != TensorProto.FLOAT]
        del self._graph.initializer[:], self._graph.node[:], self._graph.value_info[:]
        self._graph.initializer.extend([*others, *self._made])
        self._graph.node.extend(self._nodes)
        return self._model


class _Slots(NamedTuple):
    """Which inputs and outputs of a node may be 16 bits wide."""

    inputs: list[bool]
    outputs: list[bool]


def _slots(node: onnx.NodeProto, opset: int, precision: Half) -> _Slots:
    if node.domain not in ("", "ai.onnx"):
        return _Slots([False] * len(node.input), [False] * len(node.output))
    schema = onnx.defs.get_schema(node.op_type, opset)
    allowed = {c.type_param_str for c in schema.type_constraints if f"tensor({precision})" in c.allowed_type_strs}
    return _Slots(
        [_formal(schema.inputs, i).type_str in allowed for i in range(len(node.input))],
        [_formal(schema.outputs, i).type_str in allowed for i in range(len(node.output))],
    )


def _formal(
    parameters: Sequence[onnx.defs.OpSchema.FormalParameter], position: int
) -> onnx.defs.OpSchema.FormalParameter:
    return parameters[min(position, len(parameters) - 1)]  # the last one may be variadic


def _float_tensors(model: onnx.ModelProto) -> set[str]:
    """Names of all float32 tensors. Inferred without the weights' bytes: they may be more than protobuf carries."""
    shell = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    shell.graph.CopyFrom(onnx.GraphProto(name="shell", node=model.graph.node, output=model.graph.output))
    weights = [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in model.graph.initializer]
    names = {t.name for t in model.graph.initializer}
    shell.graph.input.extend([*(v for v in model.graph.input if v.name not in names), *weights])
    graph = onnx.shape_inference.infer_shapes(shell).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    return {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}


def _beside_quantization(graph: onnx.GraphProto) -> set[str]:
    """First outputs of the nodes that quantize, read a dequantized tensor, or make one that is quantized."""
    dequantized = {o for n in graph.node if n.op_type == "DequantizeLinear" for o in n.output}
    quantized = {i for n in graph.node if n.op_type == "QuantizeLinear" for i in n.input}
    return {
        node.output[0]
        for node in graph.node
        if node.op_type in QUANTIZATION or dequantized & set(node.input) or quantized & set(node.output)
    }


def _casts_to_float(node: onnx.NodeProto) -> bool:
    return node.op_type == "Cast" and any(a.name == "to" and a.i == TensorProto.FLOAT for a in node.attribute)


def _narrowed(array: np.ndarray, precision: Half) -> np.ndarray:
    return array.astype(np.float16 if precision == "float16" else ml_dtypes.bfloat16)


def _largest(tensor: onnx.TensorProto) -> float:
    array = numpy_helper.to_array(tensor)
    finite = array[np.isfinite(array)]  # masks of -inf stay what they are
    return float(np.abs(finite).max()) if finite.size else 0.0


def _patterns(names: Iterable[str]) -> list[re.Pattern[str]]:
    try:
        return [re.compile(name) for name in names]
    except re.error as error:
        raise UserError("a name to keep float is no regular expression", found=f"{error.pattern!r}: {error}") from None


def _refuse_control_flow(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute):
            raise UserError("a model with branches or loops cannot be converted to 16 bits", found=_called(node),
                            expected="no If, Loop or Scan", fix="export it in float32")  # fmt: skip


def _called(node: onnx.NodeProto) -> str:
    return node.name or f"{node.op_type} making {node.output[0]}"


def _opset(model: onnx.ModelProto) -> int:
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)


def peaks_of(traces: Iterable[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """Largest magnitude of each tensor over several batches; infinite where it is not finite."""
    peaks: dict[str, float] = {}
    for name, values in (item for trace in traces for item in trace.items()):
        largest = float(np.abs(values.astype(np.float64)).max()) if values.size else 0.0
        peaks[name] = max(peaks.get(name, 0.0), largest if np.isfinite(largest) else np.inf)
    return peaks
