"""QDQ nodes that work element by element: tables, additions and products, softmax."""

from collections.abc import Callable

import numpy as np

from edgepress.exporters.c import graph as g
from edgepress.exporters.c import onnx_lazy, onnx_reader
from edgepress.exporters.c.arithmetic import rescale_of
from edgepress.exporters.c.onnx_reader import IMAGE, PLAIN, Model, Node, Value
from edgepress.exporters.c.tflite import add_factors, softmax_factors

Converter = Callable[[Model, Node], None]


def _binary(kind: str) -> Converter:
    def convert(model: Model, node: Node) -> None:
        operands = [_binary_value(model, node, i) for i in (0, 1)]
        if any(v.layout == IMAGE for v in operands):
            rank = max(len(v.shape) for v in operands)
            operands = [_broadcast_image(model, v, rank) for v in operands]
        else:
            operands = [onnx_reader.as_plain(model, v) for v in operands]
        first, turned = model.tensor(operands[0]), kind
        if first.data is not None or first.size < model.tensor(operands[1]).size:
            operands.reverse()
            turned = "rsub" if kind == "sub" else kind
        _arithmetic(model, node, turned, operands)

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
        held = model.values[name]
        reals = np.clip((np.arange(-128, 128) + 128) / 256, end.low, end.high)
        onnx_lazy.write(
            model, onnx_lazy.Chain(held, reals, ""), end.name, end.scale, end.zero_point, f"{node.name}:scale"
        )


def _divide(model: Model, node: Node) -> None:
    """By a constant only: a product with its reciprocals."""
    reals = model.reals(node, 1)
    if not np.all(reals):
        raise model.refuse(node, "a division by 0", "a constant without zeros")
    name = f"{node.inputs[1]}:reciprocal"
    model.constants[name] = 1 / reals
    product = Node("Mul", node.name, [node.inputs[0], name], node.outputs, node.attributes)
    _binary("mul")(model, product)


def _batch_norm(model: Model, node: Node) -> None:
    """gamma (x - mean) / sqrt(variance + epsilon) + beta per channel: a 1x1 depthwise convolution, weights +-127."""
    gamma, beta, mean, variance = (model.reals(node, i) for i in range(1, 5))
    slope = gamma / np.sqrt(variance + float(node.attributes.get("epsilon", 1e-5)))
    offset = beta - mean * slope
    value = model.value(node, 0)
    flat = len(value.shape) == 2
    if flat:  # [N, C]: an image of one pixel
        plain = onnx_reader.as_plain(model, value)
        held = onnx_reader.alias(model, model.tensor(plain), (1, 1, 1, value.shape[1]))
        value = Value(held.name, (1, value.shape[1], 1, 1), IMAGE)
    value = onnx_reader.as_image(model, value)
    x, end = model.tensor(value), onnx_reader.required_ending(model, node)
    scales = np.maximum(np.abs(slope) / 127, np.abs(offset) / x.scale[0] / 2.0**29)
    scales = np.where(scales == 0, 1.0, scales)
    shape = (value.shape[0], value.shape[1]) if flat else value.shape
    y = onnx_reader.result(model, end.name, shape, PLAIN if flat else IMAGE, end.scale, end.zero_point)
    out = model.add(g.Tensor(f"{end.name}:image", x.shape, "int8", y.scale, y.zero_point)) if flat else y
    weight = np.rint(slope / scales).astype(np.int8).reshape(-1, 1, 1, 1)
    bias = np.rint(offset / (scales * x.scale[0])).astype(np.int32)
    names = (
        model.add(g.Tensor(f"{end.name}:slope", weight.shape, "int8", data=weight)).name,
        model.add(g.Tensor(f"{end.name}:offset", bias.shape, "int32", data=bias)).name,
    )
    model.ops.append(
        g.Conv(
            name=node.name or end.name,
            inputs=(x.name, *names),
            output=out.name,
            rescale=rescale_of(*(scales * x.scale[0] / end.scale)),
            groups=len(slope),
            clamp=end.clamp(),
        )
    )
    if flat:
        model.ops.append(g.Reshape(name=f"{node.name}:flat", inputs=(out.name,), output=y.name))


CONVERTERS: dict[str, Converter] = {
    "Add": _binary("add"),
    "Sub": _binary("sub"),
    "Mul": _binary("mul"),
    "Div": _divide,
    "BatchNormalization": _batch_norm,
    "Softmax": _softmax,
}
