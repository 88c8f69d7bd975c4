"""QDQ nodes that only move integers: reshape, transpose, concat, slice, split, pad, nearest resize."""

from collections.abc import Callable

import numpy as np

from edgepress.exporters.c import graph as g
from edgepress.exporters.c import onnx_reader
from edgepress.exporters.c.onnx_reader import FLAT_IMAGE, IMAGE, PLAIN, Model, Node, Value
from edgepress.exporters.c.tables import lookup_table

TO_IMAGE_AXIS = {4: (0, 3, 1, 2), 3: (0, 3, 2)}  # ONNX axis -> axis of the NHWC tensor that holds it


def finish(model: Model, node: Node, x: g.Tensor, emit: Callable[[str], None]) -> None:
    """Write a node whose result has its input's scale; a different scale behind it costs a table.

    emit: makes the operator and the result of the given ONNX name, in x's scale.
    """
    end = onnx_reader.ending(model, node)
    same = end is not None and (end.scale, end.zero_point) == (x.scale[0], x.zero_point) and end.clamp() == g.FULL_RANGE
    name = end.name if end is not None and same else node.outputs[0]
    emit(name)
    if end is None or same:
        return
    value = model.values[name]
    held = model.tensor(value)
    y = onnx_reader.result(model, end.name, value.shape, value.layout, end.scale, end.zero_point)
    if value.layout == FLAT_IMAGE:
        model.values[end.name] = Value(end.name, value.shape, FLAT_IMAGE, value.image)
    low, high = end.low, end.high
    table = lookup_table(lambda reals: np.clip(reals, low, high), held, y)
    model.ops.append(
        g.Lookup(name=f"{node.name}:scale", inputs=(held.name,), output=y.name, function="identity", table=table)
    )


def _reshape(model: Model, node: Node) -> None:
    value = model.value(node, 0)
    shape = model.shapes.get(node.outputs[0], ())
    if not shape or 0 in shape or int(np.prod(shape)) != int(np.prod(value.shape)):
        shape = _target_shape(model, node, value)
    reshaped(model, node, value, shape)


def _target_shape(model: Model, node: Node, value: Value) -> tuple[int, ...]:
    """A shape that inference left open: -1 and 0 resolved here."""
    wanted = model.constant(node, 1)
    if node.kind == "Flatten":
        axis = int(node.attributes.get("axis", 1))
        lead = int(np.prod(value.shape[:axis], dtype=np.int64))
        return (lead, int(np.prod(value.shape)) // lead)
    if wanted is None:
        raise model.refuse(node, "a computed shape", "a constant shape")
    sizes = [value.shape[i] if n == 0 else int(n) for i, n in enumerate(wanted.tolist())]
    if -1 in sizes:
        rest = -int(np.prod(sizes, dtype=np.int64))
        sizes[sizes.index(-1)] = int(np.prod(value.shape)) // rest
    return tuple(sizes)


def reshaped(model: Model, node: Node, value: Value, shape: tuple[int, ...]) -> None:
    """`value` under another ONNX shape. A flattened image stays in NHWC order until something needs otherwise."""
    flat = value.layout == IMAGE and shape == (1, int(np.prod(value.shape)))
    if not flat:
        value = onnx_reader.as_plain(model, value)
    x = model.tensor(value)

    def emit(name: str) -> None:
        y = onnx_reader.result(model, name, shape, PLAIN, x.scale[0], x.zero_point)
        if flat:
            model.values[name] = Value(name, shape, FLAT_IMAGE, value.shape)
        model.ops.append(g.Reshape(name=node.name or name, inputs=(x.name,), output=y.name))

    finish(model, node, x, emit)


def _squeeze(model: Model, node: Node) -> None:
    value = model.value(node, 0)
    given = model.constant(node, 1)
    axes = {int(a) % len(value.shape) for a in given.reshape(-1)} if given is not None else None
    kept = [n for i, n in enumerate(value.shape) if (i not in axes if axes is not None else n != 1)]
    reshaped(model, node, value, tuple(kept))


def _unsqueeze(model: Model, node: Node) -> None:
    value = model.value(node, 0)
    given = model.constant(node, 1)
    if given is None:
        raise model.refuse(node, "computed axes", "constant axes")
    rank = len(value.shape) + given.size
    sizes = iter(value.shape)
    added = {int(a) % rank for a in given.reshape(-1)}
    reshaped(model, node, value, tuple(1 if i in added else next(sizes) for i in range(rank)))


def _transpose(model: Model, node: Node) -> None:
    value = onnx_reader.as_plain(model, model.value(node, 0))
    x = model.tensor(value)
    perm = tuple(int(p) for p in node.attributes.get("perm", range(len(value.shape))[::-1]))
    shape = tuple(value.shape[p] for p in perm)
    wide = [p for p in perm if value.shape[p] != 1]
    if wide == sorted(wide):  # only axes of one element change places
        reshaped(model, node, value, shape)
        return

    def emit(name: str) -> None:
        y = onnx_reader.result(model, name, shape, PLAIN, x.scale[0], x.zero_point)
        model.ops.append(g.Transpose(name=node.name or name, inputs=(x.name,), output=y.name, perm=perm))

    finish(model, node, x, emit)


def _held_axis(value: Value, axis: int) -> int:
    """Axis of the graph tensor that holds an ONNX axis."""
    axis %= len(value.shape)
    return TO_IMAGE_AXIS[len(value.shape)][axis] if value.layout == IMAGE else axis


def _settled(model: Model, value: Value) -> Value:
    """The value as image or in plain order, whichever it is closer to."""
    return value if value.layout == IMAGE else onnx_reader.as_plain(model, value)


def _concat(model: Model, node: Node) -> None:
    values = [_joined(model, node, i) for i in range(len(node.inputs))]
    image = all(v.layout == IMAGE for v in values)
    values = values if image else [onnx_reader.as_plain(model, v) for v in values]
    end = onnx_reader.required_ending(model, node)
    axis = int(node.attributes["axis"])
    total = sum(v.shape[axis] for v in values)
    shape = list(values[0].shape)
    shape[axis % len(shape)] = total
    names = tuple(_rescaled(model, node, v, end.scale, end.zero_point) for v in values)
    y = onnx_reader.result(model, end.name, shape, IMAGE if image else PLAIN, end.scale, end.zero_point)
    held = _held_axis(values[0], axis)
    model.ops.append(g.Concat(name=node.name or end.name, inputs=names, output=y.name, axis=held))


def _joined(model: Model, node: Node, position: int) -> Value:
    """An operand; a float constant is kept as real numbers until the result's scale is known."""
    name = node.inputs[position]
    data = model.constants.get(name)
    if name in model.values or data is None:
        return model.value(node, position)
    model.add(g.Tensor(f"{name}:real", data.shape, "int8", (1.0,), 0, np.asarray(data, np.float64)))
    return Value(f"{name}:real", data.shape)


def _rescaled(model: Model, node: Node, value: Value, scale: float, zero: int) -> str:
    x = model.tensor(value)
    if x.data is not None:
        reals = (x.data.astype(np.float64) - x.zero_point) * np.asarray(x.scale)
        codes = np.clip(np.rint(reals / scale) + zero, -128, 127).astype(np.int8)
        name = f"{x.name}:for:{node.outputs[0]}"
        return model.add(g.Tensor(name, x.shape, "int8", (scale,), zero, codes)).name
    if (x.scale, x.zero_point) == ((scale,), zero):
        return x.name
    y = model.add(g.Tensor(f"{x.name}:for:{node.outputs[0]}", x.shape, "int8", (scale,), zero))
    table = lookup_table("identity", x, y)
    model.ops.append(
        g.Lookup(name=f"{node.name}:scale", inputs=(x.name,), output=y.name, function="identity", table=table)
    )
    return y.name


def _emit_slice(
    model: Model, node: Node, value: Value, bounds: dict[int, tuple[int, int, int]], name: str, scale: float, zero: int
) -> None:
    """bounds: ONNX axis -> (start, step, count)."""
    x = model.tensor(value)
    start, step, shape = [0] * len(x.shape), [1] * len(x.shape), list(value.shape)
    for axis, (first, stride, count) in bounds.items():
        held = _held_axis(value, axis)
        start[held], step[held] = first, stride
        shape[axis] = count
    y = onnx_reader.result(model, name, shape, value.layout, scale, zero)
    inputs, label = (x.name,), node.name or name
    model.ops.append(g.Slice(name=label, inputs=inputs, output=y.name, start=tuple(start), step=tuple(step)))


def _slice(model: Model, node: Node) -> None:
    value = _settled(model, model.value(node, 0))
    x = model.tensor(value)
    starts, ends = model.constant(node, 1), model.constant(node, 2)
    if starts is None or ends is None:
        raise model.refuse(node, "computed bounds", "constant bounds")
    axes, steps = model.constant(node, 3), model.constant(node, 4)
    chosen = range(starts.size) if axes is None else [int(a) % len(value.shape) for a in axes]
    strides = [1] * starts.size if steps is None else steps.tolist()
    bounds = {}
    for axis, first, last, stride in zip(chosen, starts.tolist(), ends.tolist(), strides, strict=True):
        picks = range(*slice(first, last, stride).indices(value.shape[axis]))
        bounds[axis] = (picks.start, picks.step, len(picks))
    finish(model, node, x, lambda name: _emit_slice(model, node, value, bounds, name, x.scale[0], x.zero_point))


def _split(model: Model, node: Node) -> None:
    value = _settled(model, model.value(node, 0))
    x = model.tensor(value)
    axis = int(node.attributes.get("axis", 0)) % len(value.shape)
    given = model.constant(node, 1)
    count = len(node.outputs)
    sizes = given.tolist() if given is not None else [-(-value.shape[axis] // count)] * (count - 1)
    sizes = sizes if given is not None else [*sizes, value.shape[axis] - sum(sizes)]
    at = 0
    for output, size in zip(node.outputs, sizes, strict=True):
        part = Node(node.kind, f"{node.name}:{at}", node.inputs, [output], node.attributes)
        bounds = {axis: (at, 1, int(size))}
        finish(model, part, x, _slice_writer(model, part, value, bounds, x))
        at += int(size)


def select(model: Model, node: Node, index: int, *, keep: bool) -> None:
    """One index of an axis; `keep`: the axis stays, with one element."""
    value = _settled(model, model.value(node, 0))
    x = model.tensor(value)
    axis = int(node.attributes.get("axis", 0)) % len(value.shape)
    bounds = {axis: (index % value.shape[axis], 1, 1)}
    shape = tuple(n for i, n in enumerate(value.shape) if i != axis)
    if keep:
        finish(model, node, x, _slice_writer(model, node, value, bounds, x))
        return
    picked = f"{node.outputs[0]}:picked"
    _emit_slice(model, node, value, bounds, picked, x.scale[0], x.zero_point)
    reshaped(model, node, model.values[picked], shape)


def _slice_writer(
    model: Model, node: Node, value: Value, bounds: dict[int, tuple[int, int, int]], x: g.Tensor
) -> Callable[[str], None]:
    return lambda name: _emit_slice(model, node, value, bounds, name, x.scale[0], x.zero_point)


def _pad(model: Model, node: Node) -> None:
    value = _settled(model, model.value(node, 0))
    x = model.tensor(value)
    pads = model.constant(node, 1)
    if (
        pads is None
        or node.attributes.get("mode", b"constant") != b"constant"
        or pads.min() < 0
        or len(node.inputs) > 3
    ):
        raise model.refuse(node, "computed, negative or reflected padding", "constant padding of 0 or more")
    rank = len(value.shape)
    held = [(0, 0)] * len(x.shape)
    for axis in range(rank):
        held[_held_axis(value, axis)] = (int(pads[axis]), int(pads[axis + rank]))
    shape = [n + int(pads[i]) + int(pads[i + rank]) for i, n in enumerate(value.shape)]
    fill = onnx_reader.scalar(model, node, 2) or 0.0
    code = int(np.clip(round(fill / x.scale[0]) + x.zero_point, -128, 127))

    def emit(name: str) -> None:
        y = onnx_reader.result(model, name, shape, value.layout, x.scale[0], x.zero_point)
        model.ops.append(g.Pad(name=node.name or name, inputs=(x.name,), output=y.name, pads=tuple(held), value=code))

    finish(model, node, x, emit)


def _resize(model: Model, node: Node) -> None:
    value = onnx_reader.as_image(model, model.value(node, 0))
    x = model.tensor(value)
    shape = model.shapes.get(node.outputs[0], ())
    mode = node.attributes.get("mode", b"nearest").decode()
    transform = node.attributes.get("coordinate_transformation_mode", b"half_pixel").decode()
    nearest = node.attributes.get("nearest_mode", b"round_prefer_floor").decode()
    if mode != "nearest" or len(shape) != 4 or 0 in shape or shape[:2] != value.shape[:2]:
        raise model.refuse(node, f"{mode}, result {shape}", "nearest, over height and width")
    if (transform, nearest) not in (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor")):
        raise model.refuse(
            node, f"{transform}, {nearest}", "asymmetric with floor, or half_pixel with round_prefer_floor"
        )

    def picks(old: int, new: int) -> tuple[int, ...]:
        at = np.arange(new)
        if transform == "asymmetric":
            source = np.floor(at * old / new)
        else:
            source = np.ceil((at + 0.5) * old / new - 0.5 - 0.5)  # round half down
        return tuple(int(i) for i in np.clip(source, 0, old - 1))

    def emit(name: str) -> None:
        y = onnx_reader.result(model, name, shape, IMAGE, x.scale[0], x.zero_point)
        rows, columns = picks(value.shape[2], shape[2]), picks(value.shape[3], shape[3])
        model.ops.append(g.Resize(name=node.name or name, inputs=(x.name,), output=y.name, rows=rows, columns=columns))

    finish(model, node, x, emit)


def _identity(model: Model, node: Node) -> None:
    model.values[node.outputs[0]] = model.value(node, 0)


CONVERTERS: dict[str, Callable[[Model, Node], None]] = {
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Concat": _concat,
    "Slice": _slice,
    "Split": _split,
    "Pad": _pad,
    "Resize": _resize,
    "Identity": _identity,
    "Dropout": _identity,
}
