"""QDQ nodes that sum over axes or repeat operands over any: ReduceSum, ReduceMean, ReduceL2, products, quotients.

A product that only a sum reads is never quantized: the sum of exact products is. A function of such a sum (a length is
its square root; the squashing of capsules) is followed with all values the sum can take, and becomes a staircase.
"""

from collections.abc import Callable, Sequence

import numpy as np

from edgepress.exporters.c import graph as g
from edgepress.exporters.c import onnx_lazy, onnx_reader
from edgepress.exporters.c.arithmetic import QUOTIENT_BITS, rescale_of
from edgepress.exporters.c.onnx_reader import IMAGE, PLAIN, Model, Node, Value
from edgepress.exporters.c.staircases import Sum, buckets

REDUCTIONS = {"ReduceSum", "ReduceMean", "ReduceSumSquare", "ReduceL2"}


# --- operands -------------------------------------------------------------------------------------------------------


def operand(model: Model, node: Node, position: int) -> Value:
    """An operand; a float constant is quantized here, to its own range, a uniform one to a single number."""
    name = node.inputs[position]
    data = model.constants.get(name)
    if name in model.values or data is None:
        return model.value(node, position)
    real = np.asarray(data, np.float64)
    scale = float(np.abs(real).max(initial=0)) / 127 or 1.0
    codes = np.rint(real / scale).astype(np.int8)
    if codes.size and (codes == codes.flat[0]).all():
        codes = codes.reshape(-1)[:1].reshape((1,) * real.ndim)
    model.add(g.Tensor(f"{name}:int8", codes.shape, "int8", (scale,), 0, codes))
    return Value(f"{name}:int8", codes.shape)


def _steps(model: Model, value: Value, rank: int) -> list[tuple[int, int]]:
    """(count, elements to step over) per ONNX axis, filled up with leading axes of one."""
    held = model.tensor(value).shape
    strides = [int(np.prod(held[i + 1 :], dtype=np.int64)) for i in range(len(held))]
    if value.layout == IMAGE:  # NHWC, or N1LC
        strides = [strides[0], strides[3], *strides[1 if len(value.shape) == 4 else 2 : 3]]
    lead = [(1, 0)] * (rank - len(value.shape))
    return lead + [(n, s if n > 1 else 0) for n, s in zip(value.shape, strides, strict=True)]


def _settled(model: Model, value: Value) -> Value:
    return value if value.layout == IMAGE else onnx_reader.as_plain(model, value)


def _walk(model: Model, values: Sequence[Value], summed: Sequence[int], order: Sequence[int]) -> g.Loops:
    """Loops over the joint shape of all operands. summed: axes to add up. order: of all other axes in the result."""
    rank = max(len(value.shape) for value in values)
    steps = [_steps(model, value, rank) for value in values]
    counts = [max(s[axis][0] for s in steps) for axis in range(rank)]
    axes = [*order, *summed]
    walks = [tuple(s[axis][1] for axis in axes) for s in steps]
    return g.Loops(tuple(counts[a] for a in axes), walks[0], walks[1] if len(walks) > 1 else (0,) * rank, len(summed))


def _joint_shape(values: Sequence[Value]) -> tuple[int, ...]:
    return tuple(np.broadcast_shapes(*(value.shape for value in values)))


# --- products and quotients ------------------------------------------------------------------------------------------


def element_wise(model: Model, node: Node, values: Sequence[Value]) -> None:
    """Mul or Div of two operands, each repeated over any axes."""
    values = [_settled(model, value) for value in values]
    shape = _joint_shape(values)
    image = len(shape) in (3, 4) and any(v.layout == IMAGE and v.shape == shape for v in values)
    order = (0, *range(2, len(shape)), 1) if image else range(len(shape))
    loops = _walk(model, values, (), tuple(order))
    a, b = (model.tensor(value) for value in values)
    end = onnx_reader.required_ending(model, node)
    y = onnx_reader.result(model, end.name, shape, IMAGE if image else PLAIN, end.scale, end.zero_point)
    common = {"name": node.name or end.name, "inputs": (a.name, b.name), "output": y.name, "clamp": end.clamp()}
    if node.kind == "Div":
        factor = rescale_of(a.scale[0] / b.scale[0] / end.scale / 2**QUOTIENT_BITS)
        model.ops.append(g.Divide(loops=loops, rescale=factor, **common))  # type: ignore[arg-type]
    else:
        factor = rescale_of(a.scale[0] * b.scale[0] / end.scale)
        model.ops.append(g.Contract(loops=loops, rescale=factor, **common))  # type: ignore[arg-type]


def repeated(model: Model, value: Value, shape: tuple[int, ...]) -> Value:
    """A plain value repeated over axes until it has `shape`: as bytes, for operators that want equal shapes."""
    value = onnx_reader.as_plain(model, value)
    if value.shape == shape:
        return value
    wide = (1,) * (len(shape) - len(value.shape)) + value.shape
    x = model.tensor(value)
    name = f"{x.name}:{'x'.join(map(str, shape))}:repeated"
    if x.data is not None:
        held = np.ascontiguousarray(np.broadcast_to(x.data.reshape(wide), shape))
        model.add(g.Tensor(name, shape, x.dtype, x.scale, x.zero_point, held))
    elif name not in model.tensors:
        x = onnx_reader.alias(model, x, wide)
        model.add(g.Tensor(name, shape, "int8", x.scale, x.zero_point))
        step = tuple(int(n == m) for n, m in zip(wide, shape, strict=True))
        start = (0,) * len(shape)
        model.ops.append(g.Slice(name=name, inputs=(x.name,), output=name, start=start, step=step))
    return Value(name, shape)


def product(model: Model, node: Node) -> None:
    """MatMul of any two operands: batch axes are repeated as they need to be."""
    a, b = (onnx_reader.as_plain(model, operand(model, node, i)) for i in (0, 1))
    if min(len(a.shape), len(b.shape)) < 2:
        raise model.refuse(node, f"{a.shape} times {b.shape}", "two axes or more")
    batch = tuple(np.broadcast_shapes(a.shape[:-2], b.shape[:-2]))
    rank = len(batch) + 2
    left, right = (dict(enumerate(_steps(model, value, rank))) for value in (a, b))
    rows, inner, columns = left[rank - 2], left[rank - 1], right[rank - 1]
    counts = (*batch, rows[0], columns[0], inner[0])
    a_steps = (*(left[i][1] for i in range(rank - 2)), rows[1], 0, inner[1])
    b_steps = (*(right[i][1] for i in range(rank - 2)), 0, columns[1], right[rank - 2][1])
    x, z = model.tensor(a), model.tensor(b)
    end = onnx_reader.required_ending(model, node)
    y = onnx_reader.result(model, end.name, counts[:-1], PLAIN, end.scale, end.zero_point)
    model.ops.append(
        g.Contract(
            name=node.name or end.name,
            inputs=(x.name, z.name),
            output=y.name,
            loops=g.Loops(counts, a_steps, b_steps, 1),
            rescale=rescale_of(x.scale[0] * z.scale[0] / end.scale),
            clamp=end.clamp(),
        )
    )


# --- sums -----------------------------------------------------------------------------------------------------------


def take(model: Model, node: Node) -> bool:
    """Leave a product that only a sum reads to that sum; False if `node` is none."""
    users = model.consumers.get(node.outputs[0], [])
    summed = len(users) == 1 and users[0].kind in ("ReduceSum", "ReduceMean") and node.outputs[0] not in model.outputs
    if not summed or not (node.kind == "Mul" or (node.kind == "Pow" and _is_two(model, node))):
        return False
    computed = [i for i, name in enumerate(node.inputs) if name in model.values]
    if not computed or any(name not in (*model.values, *model.constants) for name in node.inputs):
        return False  # a function of one value is a table, and sums of those are sums
    first = operand(model, node, 0)
    model.products[node.outputs[0]] = (first, first if node.kind == "Pow" else operand(model, node, 1))
    return True


def _is_two(model: Model, node: Node) -> bool:
    number = model.constant(node, 1)
    return number is not None and number.size == 1 and float(number.reshape(-1)[0]) == 2.0


def feeds_functions(model: Model, node: Node) -> bool:
    """Do only functions of one value read a result?"""
    users = model.consumers.get(node.outputs[0], [])
    kinds = onnx_lazy.UNARY - onnx_reader.CLAMPS
    return bool(users) and all(
        user.kind in kinds or (user.kind in onnx_lazy.BINARY and any(name in model.constants for name in user.inputs))
        for user in users
    )


def reduce(model: Model, node: Node) -> None:
    """ReduceSum, ReduceMean, ReduceSumSquare, ReduceL2 over any axes."""
    values = [_settled(model, value) for value in _summands(model, node)]
    shape = _joint_shape(values)
    axes = _axes(model, node, len(shape))
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    loops = _walk(model, values, axes, kept)
    scale = float(np.prod([model.tensor(value).scale[0] for value in values]))
    scale /= loops.products if node.kind == "ReduceMean" else 1
    left = tuple(1 if axis in axes else n for axis, n in enumerate(shape))
    result = left if node.attributes.get("keepdims", 1) else tuple(shape[axis] for axis in kept)
    names = tuple(value.tensor for value in values)
    end = None if node.kind == "ReduceL2" else onnx_reader.ending(model, node)
    if end is None:
        zeros = [model.tensor(value).zero_point for value in values]
        sums, width = buckets(zeros, loops.products, squares=len(names) == 2 and names[0] == names[1])
        found = Sum(names, loops, result, scale, sums, width)
        reals = np.sqrt(np.maximum(found.reals, 0)) if node.kind == "ReduceL2" else found.reals
        model.chains[node.outputs[0]] = onnx_lazy.Chain(found, reals, "")
        return
    y = onnx_reader.result(model, end.name, result, PLAIN, end.scale, end.zero_point)
    factor = rescale_of(scale / end.scale)
    label = node.name or end.name
    model.ops.append(
        g.Contract(name=label, inputs=names, output=y.name, loops=loops, rescale=factor, clamp=end.clamp())
    )


def _axes(model: Model, node: Node, rank: int) -> list[int]:
    given = model.constant(node, 1)
    axes = given.reshape(-1).tolist() if given is not None else list(node.attributes.get("axes", ()))
    if not axes and node.attributes.get("noop_with_empty_axes", 0):
        raise model.refuse(node, "no axes to sum over", "at least one")
    return sorted(int(axis) % rank for axis in axes) or list(range(rank))


def _summands(model: Model, node: Node) -> list[Value]:
    """What is summed: one value, or the two operands of a product."""
    name = node.inputs[0]
    if name in model.products:
        return list(model.products[name])
    if name in model.chains:
        value = _as_integers(model, node, model.chains[name])
    else:
        value = model.value(node, 0)
    return [value, value] if node.kind in ("ReduceSumSquare", "ReduceL2") else [value]


def _as_integers(model: Model, node: Node, chain: onnx_lazy.Chain) -> Value:
    """A function of one value that nothing quantizes before it is summed: to int8, over the range it can take."""
    low, high = min(0.0, float(np.min(chain.reals))), max(0.0, float(np.max(chain.reals)))
    scale = (high - low) / 255 or 1.0
    name = f"{node.inputs[0]}:summed"
    onnx_lazy.write(model, chain, name, scale, int(np.clip(round(-128 - low / scale), -128, 127)), name)
    return model.values[name]


CONVERTERS: dict[str, Callable[[Model, Node], None]] = dict.fromkeys(REDUCTIONS, reduce)
