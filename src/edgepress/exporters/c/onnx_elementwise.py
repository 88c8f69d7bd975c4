"""QDQ nodes that work element by element: tables, additions and products, softmax."""

from collections.abc import Callable

import numpy as np

from edgepress.exporters.c import graph as g
from edgepress.exporters.c import onnx_reader
from edgepress.exporters.c.arithmetic import rescale_of
from edgepress.exporters.c.onnx_reader import IMAGE, PLAIN, Model, Node, Value
from edgepress.exporters.c.tables import FUNCTIONS, Reals, lookup_table
from edgepress.exporters.c.tflite import add_factors, softmax_factors

Converter = Callable[[Model, Node], None]


def table(
    model: Model, node: Node, value: Value, function: str | Callable[[Reals], Reals], name: str, scale: float, zero: int
) -> None:
    x = model.tensor(value)
    layout = IMAGE if value.layout == IMAGE else PLAIN
    value = value if layout == IMAGE else onnx_reader.as_plain(model, value)
    x = model.tensor(value)
    y = onnx_reader.result(model, name, value.shape, layout, scale, zero)
    label = function if isinstance(function, str) else node.kind.lower()
    table = lookup_table(function, x, y)
    model.ops.append(g.Lookup(name=node.name or name, inputs=(x.name,), output=y.name, function=label, table=table))


def _unary(function: str) -> Converter:
    def convert(model: Model, node: Node) -> None:
        end = onnx_reader.required_ending(model, node)

        def limited(x: Reals) -> Reals:
            return np.clip(FUNCTIONS[function](x), end.low, end.high)

        table(model, node, model.value(node, 0), limited, end.name, end.scale, end.zero_point)

    return convert


def _clip(model: Model, node: Node) -> None:
    low, high = onnx_reader.limits(model, node)
    end = onnx_reader.required_ending(model, node)

    def limited(x: Reals) -> Reals:
        return np.clip(x, max(low, end.low), min(high, end.high))

    table(model, node, model.value(node, 0), limited, end.name, end.scale, end.zero_point)


def _leaky_relu(model: Model, node: Node) -> None:
    slope = float(node.attributes.get("alpha", 0.01))
    end = onnx_reader.required_ending(model, node)

    def leaky(x: Reals) -> Reals:
        return np.clip(np.where(x < 0, slope * x, x), end.low, end.high)

    table(model, node, model.value(node, 0), leaky, end.name, end.scale, end.zero_point)


def _hard_sigmoid(model: Model, node: Node) -> None:
    alpha, beta = float(node.attributes.get("alpha", 0.2)), float(node.attributes.get("beta", 0.5))
    end = onnx_reader.required_ending(model, node)

    def hard(x: Reals) -> Reals:
        return np.clip(alpha * x + beta, 0.0, 1.0)

    table(model, node, model.value(node, 0), hard, end.name, end.scale, end.zero_point)


def _binary(kind: str) -> Converter:
    def convert(model: Model, node: Node) -> None:
        operands = [_binary_value(model, node, i) for i in (0, 1)]
        if any(v.layout == IMAGE for v in operands):
            rank = max(len(v.shape) for v in operands)
            operands = [_broadcast_image(model, v, rank) for v in operands]
        else:
            operands = [onnx_reader.as_plain(model, v) for v in operands]
        first = model.tensor(operands[0])
        if first.data is not None or first.size < model.tensor(operands[1]).size:
            if kind == "sub":
                raise model.refuse(node, "the smaller operand is subtracted from", "the larger operand first")
            operands.reverse()
        _arithmetic(model, node, kind, operands)

    return convert


def _binary_value(model: Model, node: Node, position: int) -> Value:
    """An operand; a float constant is quantized here, to its own range."""
    name = node.inputs[position]
    data = model.constants.get(name)
    if name in model.values or data is None:
        return model.value(node, position)
    real = np.asarray(data, np.float64)
    scale = float(np.abs(real).max(initial=0)) / 127 or 1.0
    codes = np.rint(real / scale).astype(np.int8)
    model.add(g.Tensor(f"{name}:int8", real.shape, "int8", (scale,), 0, codes))
    return Value(f"{name}:int8", real.shape)


def _broadcast_image(model: Model, value: Value, rank: int) -> Value:
    if value.layout == IMAGE:
        return value
    shape = (1,) * (rank - len(value.shape)) + value.shape
    tensor = model.tensor(onnx_reader.as_plain(model, value))
    if tensor.data is not None:
        model.add(
            g.Tensor(f"{tensor.name}:wide", shape, "int8", tensor.scale, tensor.zero_point, tensor.data.reshape(shape))
        )
        return onnx_reader.as_image(model, Value(f"{tensor.name}:wide", shape))
    return onnx_reader.as_image(model, value)


def _repeats(larger: tuple[int, ...], smaller: tuple[int, ...]) -> bool:
    """Is `smaller` repeated over leading axes of `larger` only?"""
    inner = list(smaller)
    while inner and inner[0] == 1:
        inner.pop(0)
    return not inner or tuple(inner) == larger[len(larger) - len(inner) :]


def _arithmetic(model: Model, node: Node, kind: str, operands: list[Value]) -> None:
    a, b = (model.tensor(v) for v in operands)
    if not _repeats(a.shape, b.shape):
        raise model.refuse(node, f"{a.shape} with {b.shape}", "equal shapes, or one operand repeated over leading axes")
    end = onnx_reader.required_ending(model, node)
    layout = operands[0].layout
    y = onnx_reader.result(model, end.name, operands[0].shape, layout, end.scale, end.zero_point)
    if kind == "mul":
        factors = {"output_rescale": rescale_of(a.scale[0] * b.scale[0] / end.scale)}
    else:
        factors = add_factors(a.scale[0], b.scale[0], end.scale)
    common = {"name": node.name or end.name, "inputs": (a.name, b.name), "output": y.name, "clamp": end.clamp()}
    model.ops.append(g.Arithmetic(kind=kind, **common, **factors))  # type: ignore[arg-type]


def _softmax(model: Model, node: Node) -> None:
    value = model.value(node, 0)
    axis = int(node.attributes.get("axis", -1)) % len(value.shape)
    image = value.layout == IMAGE and axis == 1
    if not image:
        value = onnx_reader.as_plain(model, value)
        if axis != len(value.shape) - 1:
            raise model.refuse(node, f"axis {axis} of {value.shape}", "the last axis")
    x = model.tensor(value)
    end = onnx_reader.required_ending(model, node)
    # The kernel's result has scale 1/256 and zero point -128; another scale costs one more table.
    fixed = (end.scale, end.zero_point) == (1 / 256, -128)
    name = end.name if fixed else f"{end.name}:softmax"
    layout = IMAGE if image else PLAIN
    y = onnx_reader.result(model, name, value.shape, layout, 1 / 256, -128)
    factors = softmax_factors(x.scale[0])
    model.ops.append(g.Softmax(name=node.name or name, inputs=(x.name,), output=y.name, **factors))
    if not fixed:
        table(model, node, model.values[name], "identity", end.name, end.scale, end.zero_point)


CONVERTERS: dict[str, Converter] = {
    "Add": _binary("add"),
    "Sub": _binary("sub"),
    "Mul": _binary("mul"),
    "Relu": _unary("relu"),
    "Sigmoid": _unary("sigmoid"),
    "Tanh": _unary("tanh"),
    "HardSwish": _unary("hard_swish"),
    "Gelu": _unary("gelu"),
    "Softplus": _unary("softplus"),
    "Elu": _unary("elu"),
    "Abs": _unary("abs"),
    "Neg": _unary("negate"),
    "Exp": _unary("exp"),
    "Sqrt": _unary("sqrt"),
    "HardSigmoid": _hard_sigmoid,
    "LeakyRelu": _leaky_relu,
    "Clip": _clip,
    "Softmax": _softmax,
}
