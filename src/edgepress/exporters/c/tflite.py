"""`.tflite` (int8) -> integer graph: import for comparison with what other engines make of the same file.

Field numbers are those of TensorFlow's schema.fbs. Multipliers follow TensorFlow Lite Micro, down to the float32
product of scales in fully connected layers.
"""

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgepress.errors import UserError
from edgepress.exporters.c import arithmetic, flatbuffer
from edgepress.exporters.c import graph as g
from edgepress.exporters.c.flatbuffer import Table
from edgepress.exporters.c.tables import lookup_table

TYPES = {9: "int8", 2: "int32"}
SAME = 0
NAMES = {
    0: "ADD",
    1: "AVERAGE_POOL_2D",
    2: "CONCATENATION",
    3: "CONV_2D",
    4: "DEPTHWISE_CONV_2D",
    9: "FULLY_CONNECTED",
    14: "LOGISTIC",
    17: "MAX_POOL_2D",
    18: "MUL",
    22: "RESHAPE",
    25: "SOFTMAX",
    28: "TANH",
}


@dataclass
class _Model:
    """The parts of the file while it is read, and the graph as it grows."""

    path: Path
    root: Table
    tensors: dict[str, g.Tensor] = field(default_factory=dict)
    ops: list[g.Op] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def tensor(self, index: int) -> g.Tensor:
        return self.tensors[self.names[index]]

    def refuse(self, node: str, found: str, expected: str) -> UserError:
        return UserError(f"{self.path.name}: {node} cannot be exported to C", found=found, expected=expected)


@dataclass
class _Node:
    """One operator of the file: name, tensor indices, options table."""

    name: str
    inputs: list[int]
    output: int
    options: Table | None

    def option(self, number: int, kind: str, default: int = 0) -> int:
        return int(self.options.scalar(number, kind, default)) if self.options else default


def read(path: Path) -> g.Graph:
    """Read an int8 `.tflite` file. Raises UserError naming the operator that cannot be taken."""
    try:
        return _read(path)
    except (struct.error, IndexError, ValueError) as error:
        raise UserError(
            f"{path} is not a readable .tflite file", found=str(error), expected="a TFLite flatbuffer"
        ) from error


def _read(path: Path) -> g.Graph:
    model = _Model(path, flatbuffer.root(path.read_bytes()))
    subgraph = model.root.tables(2)[0]
    buffers = model.root.tables(4)
    for index, table in enumerate(subgraph.tables(0)):
        tensor = _tensor(model, index, table, buffers)
        model.names.append(tensor.name)
        model.tensors[tensor.name] = tensor
    codes = [max(code.scalar(0, "b"), code.scalar(3, "i")) for code in model.root.tables(1)]
    for position, table in enumerate(subgraph.tables(3)):
        _operator(model, codes[table.scalar(0, "I")], position, table)
    inputs, outputs = (tuple(model.names[i] for i in subgraph.array(n, "<i4")) for n in (1, 2))
    return g.Graph(path.stem, model.tensors, tuple(model.ops), inputs, outputs)


def _tensor(model: _Model, index: int, table: Table, buffers: list[Table]) -> g.Tensor:
    name = f"{index}_{table.text(3)}"
    kind = table.scalar(1, "b")
    if kind not in TYPES:
        raise model.refuse(f"tensor {name}", f"element type {kind}", "int8 activations and weights, int32 biases")
    quantization = table.table(4)
    scale = quantization.array(2, "<f4") if quantization else np.zeros(0)
    zero = quantization.array(3, "<i8") if quantization else np.zeros(0)
    shape = tuple(int(n) for n in table.array(0, "<i4"))
    raw = buffers[table.scalar(2, "I")].array(0, "u1")
    data = raw.view("<i1" if TYPES[kind] == "int8" else "<i4").reshape(shape) if raw.size else None
    scales = tuple(float(s) for s in scale) or (1.0,)
    return g.Tensor(name, shape, TYPES[kind], scales, int(zero[0]) if zero.size else 0, data)  # type: ignore[arg-type]


def _operator(model: _Model, code: int, position: int, table: Table) -> None:
    label = NAMES.get(code, f"operator {code}")
    indices = [int(i) for i in table.array(1, "<i4")]
    node = _Node(f"{position:02d}_{label.lower()}", indices, int(table.array(2, "<i4")[0]), table.table(4))
    if code not in _CONVERTERS:
        raise model.refuse(node.name, label, "one of " + ", ".join(NAMES.values()))
    model.ops.append(_CONVERTERS[code](model, node))


def _clamp(model: _Model, node: _Node, activation: int) -> tuple[int, int]:
    out = model.tensor(node.output)
    if activation not in (0, 1, 3):
        raise model.refuse(node.name, f"fused activation {activation}", "none, relu or relu6")
    low = -128 if activation == 0 else max(-128, out.zero_point)
    high = min(127, out.zero_point + round(6.0 / out.scale[0])) if activation == 3 else 127
    return low, high


def _same(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """TensorFlow's SAME padding: (before, after), the odd one after."""
    total = max((math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def _pads(
    model: _Model, node: _Node, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int] = (1, 1)
) -> tuple[int, int, int, int]:
    if node.option(0, "b") != SAME:
        return 0, 0, 0, 0
    _, height, width, _ = model.tensor(node.inputs[0]).shape
    top, bottom = _same(height, kernel[0], stride[0], dilation[0])
    left, right = _same(width, kernel[1], stride[1], dilation[1])
    return top, left, bottom, right


def _factors(model: _Model, node: _Node) -> g.Rescale:
    """input scale * weight scale / output scale in double precision, per output channel."""
    x, w, y = (model.tensor(i) for i in (node.inputs[0], node.inputs[1], node.output))
    channels = model.tensor(node.inputs[2]).size
    scales = w.scale * channels if len(w.scale) == 1 else w.scale
    return arithmetic.rescale_of(*(x.scale[0] * scale / y.scale[0] for scale in scales))


def _conv(model: _Model, node: _Node, depthwise: bool = False) -> g.Op:
    shift = 1 if depthwise else 0
    stride = (node.option(2, "i", 1), node.option(1, "i", 1))
    dilation = (node.option(5 + shift, "i", 1), node.option(4 + shift, "i", 1))
    name = model.names[node.inputs[1]]
    if depthwise:  # [1,KH,KW,O] -> [O,KH,KW,1]
        old = model.tensors[name]
        data = np.ascontiguousarray(_data(old).transpose(3, 1, 2, 0))
        model.tensors[name] = g.Tensor(name, data.shape, "int8", old.scale, 0, data)
    kernel = model.tensors[name].shape[1:3]
    return g.Conv(
        name=node.name,
        inputs=tuple(model.names[i] for i in node.inputs),
        output=model.names[node.output],
        rescale=_factors(model, node),
        stride=stride,
        dilation=dilation,
        pads=_pads(model, node, (kernel[0], kernel[1]), stride, dilation),
        groups=model.tensor(node.inputs[0]).shape[3] if depthwise else 1,
        clamp=_clamp(model, node, node.option(3 + shift, "b")),
    )


def _data(tensor: g.Tensor) -> g.Array:
    if tensor.data is None:
        raise ValueError(f"{tensor.name} holds no data")
    return tensor.data


def _depthwise(model: _Model, node: _Node) -> g.Op:
    return _conv(model, node, depthwise=True)


def _dense(model: _Model, node: _Node) -> g.Op:
    x, w, y = (model.tensor(i) for i in (node.inputs[0], node.inputs[1], node.output))
    if len(node.inputs) < 3 or node.inputs[2] < 0:
        bias = g.Tensor(f"{node.name}_bias", (w.shape[0],), "int32", data=np.zeros(w.shape[0], np.int32))
        model.tensors[bias.name] = bias
        model.names.append(bias.name)
        node.inputs = [*node.inputs[:2], len(model.names) - 1]
    # TFLM multiplies the two scales in float32 before it widens.
    product = [float(np.float32(x.scale[0]) * np.float32(scale)) / y.scale[0] for scale in w.scale]
    return g.Dense(
        name=node.name,
        inputs=tuple(model.names[i] for i in node.inputs),
        output=model.names[node.output],
        rescale=arithmetic.rescale_of(*product),
        clamp=_clamp(model, node, node.option(0, "b")),
    )


def add_factors(left: float, right: float, out: float) -> dict[str, g.Rescale]:
    """The three factors of TFLite's addition: operands are brought to twice the larger scale, 20 bits up."""
    twice = 2.0 * max(left, right)
    return {
        "left": arithmetic.rescale_of(left / twice),
        "right": arithmetic.rescale_of(right / twice),
        "output_rescale": arithmetic.rescale_of(twice / ((1 << 20) * out)),
    }


def _add(model: _Model, node: _Node) -> g.Op:
    left, right = (model.tensor(i) for i in node.inputs)
    out = model.tensor(node.output)
    return g.Arithmetic(
        name=node.name,
        inputs=(left.name, right.name),
        output=out.name,
        kind="add",
        clamp=_clamp(model, node, node.option(0, "b")),
        **add_factors(left.scale[0], right.scale[0], out.scale[0]),  # type: ignore[arg-type]
    )


def _mul(model: _Model, node: _Node) -> g.Op:
    left, right = (model.tensor(i) for i in node.inputs)
    out = model.tensor(node.output)
    return g.Arithmetic(
        name=node.name,
        inputs=(left.name, right.name),
        output=out.name,
        kind="mul",
        output_rescale=arithmetic.rescale_of(left.scale[0] * right.scale[0] / out.scale[0]),
        clamp=_clamp(model, node, node.option(0, "b")),
    )


def _pool(model: _Model, node: _Node, kind: str = "average") -> g.Op:
    stride = (node.option(2, "i", 1), node.option(1, "i", 1))
    kernel = (node.option(4, "i", 1), node.option(3, "i", 1))
    return g.Pool(
        name=node.name,
        inputs=(model.names[node.inputs[0]],),
        output=model.names[node.output],
        kind="average" if kind == "average" else "max",
        kernel=kernel,
        stride=stride,
        pads=_pads(model, node, kernel, stride),
        clamp=_clamp(model, node, node.option(5, "b")),
    )


def _max_pool(model: _Model, node: _Node) -> g.Op:
    return _pool(model, node, "max")


def _reshape(model: _Model, node: _Node) -> g.Op:
    return g.Reshape(name=node.name, inputs=(model.names[node.inputs[0]],), output=model.names[node.output])


def _concat(model: _Model, node: _Node) -> g.Op:
    names = tuple(model.names[i] for i in node.inputs)
    out = model.tensor(node.output)
    for tensor in map(model.tensors.__getitem__, names):
        if (tensor.scale, tensor.zero_point) != (out.scale, out.zero_point):
            raise model.refuse(node.name, f"input {tensor.name} has its own scale", "inputs with the output's scale")
    return g.Concat(name=node.name, inputs=names, output=out.name, axis=node.option(0, "i") % len(out.shape))


def softmax_factors(scale: float, beta: float = 1.0) -> dict[str, int]:
    """Fixed-point parameters of a softmax over inputs of that scale (TFLite PreprocessSoftmaxScaling)."""
    real = min(beta * scale * (1 << 26), float(2**31 - 1))
    multiplier, shift = arithmetic.quantize_multiplier(real)
    if shift < 0:  # a tiny scale: all shares come out nearly equal
        multiplier, shift = multiplier >> -shift, 0
    # Inputs further than this below the maximum count as zero: 31 is the largest Q5.26 integer part.
    radius = math.floor(31 * (1 << 26) / (1 << shift))
    return {"multiplier": multiplier, "left_shift": shift, "diff_min": -radius}


def _softmax(model: _Model, node: _Node) -> g.Op:
    x, out = model.tensor(node.inputs[0]), model.tensor(node.output)
    beta = node.options.scalar(0, "f", 1.0) if node.options else 1.0
    return g.Softmax(name=node.name, inputs=(x.name,), output=out.name, **softmax_factors(x.scale[0], beta))


def _unary(function: str) -> Callable[[_Model, _Node], g.Op]:
    def convert(model: _Model, node: _Node) -> g.Op:
        x, out = model.tensor(node.inputs[0]), model.tensor(node.output)
        table = lookup_table(function, x, out)
        return g.Lookup(name=node.name, inputs=(x.name,), output=out.name, function=function, table=table)

    return convert


_CONVERTERS: dict[int, Callable[[_Model, _Node], g.Op]] = {
    0: _add,
    1: _pool,
    2: _concat,
    3: _conv,
    4: _depthwise,
    9: _dense,
    14: _unary("sigmoid"),
    17: _max_pool,
    18: _mul,
    22: _reshape,
    25: _softmax,
    28: _unary("tanh"),
}
