"""Reading an int8 QDQ `.onnx` file: which float names stand for which integers, and what follows a node.

In a QDQ model every operator works on floats that come out of DequantizeLinear and go into QuantizeLinear. The reader
undoes that: a float name becomes a `Value`, the integers behind it with scale and zero point; uint8 is shifted to int8.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.errors import UserError
from edgepress.exporters.c import graph as g
from edgepress.exporters.c.graph import Array

# The order an ONNX tensor's elements have in the graph tensor that holds them.
PLAIN, IMAGE, FLAT_IMAGE = "plain", "image", "flat image"
IMAGE_OPS = {"Conv", "ConvTranspose", "AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool", "Resize"}
CLAMPS = {"Relu", "Clip"}
# What only moves values: a quantization behind it may as well stand before it.
MOVES = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Dropout", "Slice", "Gather"}
MIN_OPSET = 13


@dataclass(frozen=True)
class Value:
    """An ONNX float tensor as integers.

    Attributes:
        tensor: name in the graph. shape: the ONNX shape.
        layout: PLAIN (same order), IMAGE (NCHW or NCL kept as NHWC), or
            FLAT_IMAGE (a flattened image, still in NHWC order; `image` is its N, C, H, W).
    """

    tensor: str
    shape: tuple[int, ...]
    layout: str = PLAIN
    image: tuple[int, ...] = ()


@dataclass
class Node:
    """An ONNX node with plain attributes."""

    kind: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]


@dataclass
class Model:
    """The ONNX model with its constants, consumers and shapes, and the integer graph as it grows."""

    path: Path
    nodes: list[Node]
    constants: dict[str, Array]
    shapes: dict[str, tuple[int, ...]]
    inputs: list[str]
    outputs: list[str]
    consumers: dict[str, list[Node]] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    tensors: dict[str, g.Tensor] = field(default_factory=dict)
    ops: list[g.Op] = field(default_factory=list)
    graph_inputs: dict[str, str] = field(default_factory=dict)  # ONNX input -> tensor
    done: set[int] = field(default_factory=set)
    chains: dict[str, Any] = field(default_factory=dict)  # see onnx_lazy
    products: dict[str, tuple[Value, Value]] = field(default_factory=dict)  # see onnx_sums
    makers: dict[str, Node] = field(default_factory=dict)

    def refuse(self, node: Node, found: str, expected: str, fix: str = "") -> UserError:
        """The error for a node that has no integer form."""
        label = f"node {node.name or node.outputs[0]} ({node.kind})"
        return UserError(f"{self.path.name}: {label} cannot be exported to C", found=found, expected=expected, fix=fix)

    def value(self, node: Node, position: int) -> Value:
        """The integers behind a node's input. Raises UserError if it is a float that was never quantized."""
        name = node.inputs[position]
        if name not in self.values:
            raise self.refuse(
                node, f"input {name} is not quantized", "DequantizeLinear before it", "quantize this operator's inputs"
            )
        return self.values[name]

    def tensor(self, value: Value) -> g.Tensor:
        return self.tensors[value.tensor]

    def constant(self, node: Node, position: int) -> Array | None:
        """A node's input if it is a plain constant (axes, shapes, limits)."""
        if position >= len(node.inputs) or not node.inputs[position]:
            return None
        return self.constants.get(node.inputs[position])

    def reals(self, node: Node, position: int) -> Array:
        """A constant input as real numbers, quantized or not. Raises UserError if it is computed."""
        data, value = self.constant(node, position), self.values.get(node.inputs[position])
        if data is not None:
            return np.asarray(data, np.float64)
        tensor = self.tensor(value) if value else None
        if tensor is None or tensor.data is None:
            raise self.refuse(node, f"input {node.inputs[position]} is computed", "a constant")
        scale = np.asarray(tensor.scale).reshape(-1, *[1] * (tensor.data.ndim - 1))
        return np.asarray((tensor.data.astype(np.float64) - tensor.zero_point) * scale)

    def maker(self, name: str) -> Node | None:
        """The node that computes a value."""
        return self.makers.get(name)

    def add(self, tensor: g.Tensor) -> g.Tensor:
        self.tensors[tensor.name] = tensor
        return tensor


def load(path: Path) -> Model:
    """Read and index an ONNX file; free batch dimensions become 1. Raises UserError if it is no usable QDQ model."""
    import onnx

    try:
        proto = onnx.load(str(path))
        _fix_batch(proto)
        proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except Exception as error:  # protobuf and onnx raise many kinds for a broken file
        raise UserError(
            f"{path} is not a readable .onnx file", found=str(error)[:200], expected="an ONNX model"
        ) from error
    opset = max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if opset < MIN_OPSET:
        raise UserError(
            f"{path.name}: opset too old",
            found=str(opset),
            expected=f"{MIN_OPSET} or newer",
            fix="export again with a newer opset",
        )
    return _index(path, proto)


def _fix_batch(proto: Any) -> None:
    """A free first dimension is the batch: one example at a time runs on a microcontroller."""
    for entry in proto.graph.input:
        dims = entry.type.tensor_type.shape.dim
        if dims and not dims[0].dim_value:
            dims[0].dim_value = 1
    del proto.graph.value_info[:]
    for entry in proto.graph.output:
        entry.type.tensor_type.ClearField("shape")


def _index(path: Path, proto: Any) -> Model:
    from onnx import helper, numpy_helper

    from edgepress.exporters.c.onnx_fold import fold

    graph = proto.graph
    shapes = {entry.name: _shape(entry) for entry in [*graph.input, *graph.value_info, *graph.output]}
    constants = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
    nodes = []
    for raw in fold(list(graph.node), constants, shapes):
        attributes = {a.name: helper.get_attribute_value(a) for a in raw.attribute}
        nodes.append(Node(raw.op_type, raw.name, list(raw.input), list(raw.output), attributes))
    inputs = [entry.name for entry in graph.input if entry.name not in constants]
    model = Model(path, nodes, constants, shapes, inputs, [entry.name for entry in graph.output])
    for node in nodes:
        model.makers |= dict.fromkeys(node.outputs, node)
        for name in node.inputs:
            model.consumers.setdefault(name, []).append(node)
    return model


def _shape(entry: Any) -> tuple[int, ...]:
    return tuple(int(d.dim_value) for d in entry.type.tensor_type.shape.dim)


# --- quantization parameters --------------------------------------------------------------------------------------


def parameters(model: Model, node: Node) -> tuple[Array, Array]:
    """(scale, zero point) of a Q or DQ node; the zero point keeps its element type."""
    scale, zero = model.constant(node, 1), model.constant(node, 2)
    if scale is None:
        raise model.refuse(node, "a computed scale", "a constant scale")
    return np.asarray(scale, np.float64), np.zeros(1, np.uint8) if zero is None else zero


def activation_parameters(model: Model, node: Node) -> tuple[float, int]:
    """(scale, int8 zero point) of an activation: one for the whole tensor, uint8 shifted down by 128."""
    scale, zero = parameters(model, node)
    if scale.size != 1 or zero.dtype not in (np.int8, np.uint8):
        raise model.refuse(
            node,
            f"{scale.size} scales, {zero.dtype}",
            "one scale, int8 or uint8",
            "quantize activations per tensor to 8 bits",
        )
    return float(scale.reshape(-1)[0]), int(zero.reshape(-1)[0]) - (128 if zero.dtype == np.uint8 else 0)


def constant_value(model: Model, node: Node, data: Array) -> Value:
    """A dequantized constant: int8 or uint8 weights (as int8), int32 biases."""
    scale, zero = parameters(model, node)
    shift = 128 if data.dtype == np.uint8 else 0
    if data.dtype not in (np.int8, np.uint8, np.int32):
        raise model.refuse(node, f"{data.dtype} constant", "int8 weights or int32 biases")
    points = np.unique(zero.astype(np.int64) - shift)
    if points.size != 1:
        raise model.refuse(node, "zero points that differ between channels", "symmetric weights")
    kind: g.DType = "int32" if data.dtype == np.int32 else "int8"
    shifted = (data.astype(np.int64) - shift).astype(kind)
    scales = tuple(float(s) for s in scale.reshape(-1))
    model.add(g.Tensor(node.outputs[0], shifted.shape, kind, scales, int(points[0]), shifted))
    return Value(node.outputs[0], shifted.shape)


# --- what follows a node ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ending:
    """Where a node's float result is quantized again.

    Attributes:
        name: the ONNX name of the integers. low, high: limits in real numbers from ReLU and Clip on the way.
    """

    name: str
    scale: float
    zero_point: int
    low: float = -np.inf
    high: float = np.inf

    def clamp(self) -> tuple[int, int]:
        """The limits as int8."""
        low = -128 if self.low == -np.inf else max(-128, round(self.low / self.scale) + self.zero_point)
        high = 127 if self.high == np.inf else min(127, round(self.high / self.scale) + self.zero_point)
        return int(min(low, 127)), int(max(high, -128))


def ending(model: Model, node: Node) -> Ending | None:
    """Follow ReLU and Clip to the QuantizeLinear behind a node, marking them done. None if there is none.

    Nodes that only move values may stand between: the quantization's scale and the limits are then taken in front of
    them, limits behind them have nothing left to do, and moves and quantization are left to be visited.
    """
    low, high, current, passed, moved = -np.inf, np.inf, node, list[Node](), False
    late = list[Node]()
    while True:
        following = model.consumers.get(current.outputs[0], [])
        if len(following) != 1 or current.outputs[0] in model.outputs:
            return None
        current = following[0]
        if current.kind == "QuantizeLinear":
            break
        moved = moved or current.kind in MOVES
        if current.kind in CLAMPS:
            bounds = limits(model, current)
            low, high = max(low, bounds[0]), min(high, bounds[1])
            (late if moved else passed).append(current)
        elif current.kind not in MOVES:
            return None
    model.done |= {id(n) for n in (passed if moved else [*passed, current])}
    for clamp in late:
        clamp.kind = "Identity"
    name = (passed[-1] if passed else node).outputs[0] if moved else current.outputs[0]
    return Ending(name, *activation_parameters(model, current), low, high)


def clamp_by_table(model: Model, node: Node, end: Ending, y: g.Tensor) -> None:
    """Put the limits of an ending behind an operator that has none of its own."""
    low, high = end.clamp()
    if (low, high) == g.FULL_RANGE:
        return
    table = tuple(int(code) for code in np.clip(np.arange(-128, 128), low, high))
    limited = model.add(g.Tensor(f"{y.name}:limited", y.shape, "int8", y.scale, y.zero_point))
    held = model.values[end.name]
    model.values[end.name] = Value(limited.name, held.shape, held.layout, held.image)
    model.ops.append(
        g.Lookup(name=f"{node.name}:limits", inputs=(y.name,), output=limited.name, function="clip", table=table)
    )


def limits(model: Model, node: Node) -> tuple[float, float]:
    """Real limits that a ReLU or Clip sets."""
    if node.kind == "Relu":
        return 0.0, np.inf
    bounds = [scalar(model, node, position) for position in (1, 2)]
    return (-np.inf if bounds[0] is None else bounds[0]), (np.inf if bounds[1] is None else bounds[1])


def scalar(model: Model, node: Node, position: int) -> float | None:
    """A scalar input, quantized or not; None if it is not given."""
    if position >= len(node.inputs) or not node.inputs[position]:
        return None
    data = model.constant(node, position)
    if data is None and node.inputs[position] in model.values:
        tensor = model.tensor(model.values[node.inputs[position]])
        if tensor.data is not None:
            return float((int(tensor.data.reshape(-1)[0]) - tensor.zero_point) * tensor.scale[0])
    if data is None:
        raise model.refuse(node, "a computed limit", "constant limits")
    return float(data.reshape(-1)[0])


def required_ending(model: Model, node: Node) -> Ending:
    """As `ending`; raises UserError where the result is never quantized."""
    found = ending(model, node)
    if found is None:
        raise model.refuse(
            node,
            f"{node.outputs[0]} stays float, or is used by several nodes before it is quantized",
            "QuantizeLinear behind it (ReLU or Clip may come between)",
            "quantize this operator's output",
        )
    return found


# --- layouts ------------------------------------------------------------------------------------------------------


def image_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """NCHW -> NHWC, NCL -> N1LC."""
    return (shape[0], shape[2], shape[3], shape[1]) if len(shape) == 4 else (shape[0], 1, shape[2], shape[1])


def result(model: Model, name: str, shape: Sequence[int], layout: str, scale: float, zero: int) -> g.Tensor:
    """Make the tensor for an ONNX result and remember it as a value."""
    held = image_shape(shape) if layout == IMAGE else tuple(shape)
    model.values[name] = Value(name, tuple(shape), layout)
    return model.add(g.Tensor(name, held, "int8", (scale,), zero))


def as_image(model: Model, value: Value) -> Value:
    """The value in NHWC order; a transposition is put in if it is not."""
    if value.layout == IMAGE:
        return value
    if len(value.shape) not in (3, 4):
        raise UserError(
            f"{model.path.name}: {value.tensor} is no image", found=f"shape {value.shape}", expected="NCHW or NCL"
        )
    source = model.tensor(as_plain(model, value))
    wide = value.shape if len(value.shape) == 4 else (value.shape[0], value.shape[1], 1, value.shape[2])
    held = image_shape(value.shape)
    if wide[1] == 1 or wide[2] * wide[3] == 1:
        return Value(alias(model, source, held).name, value.shape, IMAGE)
    four = source if len(value.shape) == 4 else alias(model, source, wide)
    return Value(transposed(model, four, (0, 2, 3, 1)).name, value.shape, IMAGE)


def as_plain(model: Model, value: Value) -> Value:
    """The value in ONNX order; a transposition is put in if it is not."""
    if value.layout == PLAIN:
        return value
    source = model.tensor(value)
    image = value.image or value.shape
    wide = image if len(image) == 4 else (image[0], image[1], 1, image[2])
    if value.layout == FLAT_IMAGE:
        source = alias(model, source, image_shape(image))
    if wide[1] > 1 and wide[2] * wide[3] > 1:
        source = transposed(model, source, (0, 3, 1, 2))
    return Value(alias(model, source, value.shape).name, value.shape, PLAIN)


def alias(model: Model, source: g.Tensor, shape: tuple[int, ...]) -> g.Tensor:
    """`source` under another shape."""
    if source.shape == shape:
        return source
    name = f"{source.name}:{'x'.join(map(str, shape))}"
    if name not in model.tensors:
        data = None if source.data is None else source.data.reshape(shape)
        model.add(g.Tensor(name, shape, source.dtype, source.scale, source.zero_point, data))
        if data is None:
            model.ops.append(g.Reshape(name=f"reshape:{name}", inputs=(source.name,), output=name))
    return model.tensors[name]


def transposed(model: Model, source: g.Tensor, perm: tuple[int, ...]) -> g.Tensor:
    """`source` with its axes in another order; no byte moves where only axes of one element change places."""
    wide = [axis for axis in perm if source.shape[axis] != 1]
    if wide == sorted(wide):
        return alias(model, source, tuple(source.shape[axis] for axis in perm))
    name = f"{source.name}:{''.join(map(str, perm))}"
    if name not in model.tensors:
        shape = tuple(source.shape[axis] for axis in perm)
        data = None if source.data is None else np.ascontiguousarray(source.data.transpose(perm))
        model.add(g.Tensor(name, shape, source.dtype, source.scale, source.zero_point, data))
        if data is None:
            model.ops.append(g.Transpose(name=f"transpose:{name}", inputs=(source.name,), output=name, perm=perm))
    return model.tensors[name]
