"""QDQ nodes that work element by element: tables, additions and products, softmax."""

from collections.abc import Callable

import numpy as np

from edgepress.exporters.c import graph as g
from edgepress.exporters.c import onnx_lazy, onnx_reader, onnx_sums
from edgepress.exporters.c.arithmetic import rescale_of
from edgepress.exporters.c.onnx_reader import IMAGE, PLAIN, Model, Node, Value
from edgepress.exporters.c.tflite import add_factors, softmax_factors

Converter = Callable[[Model, Node], None]


def _binary(kind: str) -> Converter:
    def convert(model: Model, node: Node) -> None:
        operands = [onnx_sums.operand(model, node, i) for i in (0, 1)]
        if not _one_repeats(operands):
            _over_axes(model, node, kind, operands)
            return
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


def _one_repeats(operands: list[Value]) -> bool:
    """Has one operand the shape of the result, and is the other repeated over leading axes of how it is held?"""
    large, small = sorted(operands, key=lambda value: -int(np.prod(value.shape)))
    if large.layout == IMAGE or small.layout == IMAGE:
        rank = len(large.shape)
        held = [
            onnx_reader.image_shape((1,) * (rank - len(v.shape)) + v.shape) if rank in (3, 4) else ()
            for v in (large, small)
        ]
        return len(small.shape) <= rank and _repeats(held[0], held[1])
    return len(small.shape) <= len(large.shape) and _repeats(large.shape, small.shape)


def _over_axes(model: Model, node: Node, kind: str, operands: list[Value]) -> None:
    """Operands repeated over any axes: products by loops with steps of their own, sums of repeated bytes."""
    if kind == "mul":
        onnx_sums.element_wise(model, node, operands)
        return
    shape = tuple(np.broadcast_shapes(*(value.shape for value in operands)))
    _arithmetic(model, node, kind, [onnx_sums.repeated(model, value, shape) for value in operands])


def _arithmetic(model: Model, node: Node, kind: str, operands: list[Value]) -> None:
    a, b = (model.tensor(v) for v in operands)
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
    value, end = model.value(node, 0), onnx_reader.required_ending(model, node)
    axis = int(node.attributes.get("axis", -1)) % len(value.shape)
    if value.layout == IMAGE and axis == 1:
        _rows_of_softmax(model, node, value, end, end.name)
        return
    value = onnx_reader.as_plain(model, value)
    if axis == len(value.shape) - 1:
        _rows_of_softmax(model, node, value, end, end.name)
        return
    perm = (*(i for i in range(len(value.shape)) if i != axis), axis)
    turned = onnx_reader.transposed(model, model.tensor(value), perm)
    rows = Value(turned.name, tuple(value.shape[i] for i in perm))
    _rows_of_softmax(model, node, rows, end, f"{end.name}:rows")
    found = model.tensor(model.values[f"{end.name}:rows"])
    back = onnx_reader.transposed(model, found, tuple(perm.index(i) for i in range(len(perm))))
    model.values[end.name] = Value(back.name, value.shape)


def _rows_of_softmax(model: Model, node: Node, value: Value, end: onnx_reader.Ending, name: str) -> None:
    """Softmax over the last axis as held. Its scale is 1/256 with zero point -128; another one costs one more table."""
    x = model.tensor(value)
    fixed = (end.scale, end.zero_point) == (1 / 256, -128)
    first = name if fixed else f"{name}:softmax"
    y = onnx_reader.result(model, first, value.shape, value.layout, 1 / 256, -128)
    factors = softmax_factors(x.scale[0])
    model.ops.append(g.Softmax(name=node.name or first, inputs=(x.name,), output=y.name, **factors))
    if not fixed:
        reals = np.clip((np.arange(-128, 128) + 128) / 256, end.low, end.high)
        chain = onnx_lazy.Chain(model.values[first], reals, "")
        onnx_lazy.write(model, chain, name, end.scale, end.zero_point, f"{node.name}:scale")


def _divide(model: Model, node: Node) -> None:
    """By a constant: a product with its reciprocals. By an activation: quotients."""
    value = model.values.get(node.inputs[1])
    if node.inputs[1] not in model.constants and (value is None or model.tensor(value).data is None):
        onnx_sums.element_wise(model, node, [onnx_sums.operand(model, node, i) for i in (0, 1)])
        return
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
