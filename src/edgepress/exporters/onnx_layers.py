"""Layers that fewer networks have: ATen to ONNX. What ONNX has no operator for is written with those it has."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.fx import Node

from edgepress.exporters.onnx_graph import ELEMENT, GraphBuilder, NotTranslated
from edgepress.exporters.onnx_math import axes_of, operands
from edgepress.exporters.onnx_ops import TRANSLATIONS, Translation, arg, many, rank, unary
from edgepress.ir.text import op_name

# -- activations ---------------------------------------------------------------------------------------------------


def _glu(g: GraphBuilder, node: Node, out: str) -> None:
    axis = arg(node, 1, -1) % rank(node)
    half = node.meta["val"].shape[axis]
    if not isinstance(half, int):
        raise NotTranslated("halves of a free size")
    value, gate = g.fresh("t"), g.fresh("t")
    g.emit("Split", [g.name(arg(node, 0)), g.integers([half, half])], out=[value, gate], axis=axis)
    g.emit("Mul", [value, g.emit("Sigmoid", [gate])], out=out)


def _log_sigmoid(g: GraphBuilder, node: Node, out: str) -> None:
    g.emit("Neg", [g.emit("Softplus", [g.emit("Neg", [g.name(arg(node, 0))])])], out=out)


def _shrink(g: GraphBuilder, node: Node, out: str) -> None:
    limit = float(arg(node, 1, 0.5))
    soft = "softshrink" in op_name(node)
    g.emit("Shrink", [g.name(arg(node, 0))], out=out, lambd=limit, bias=limit if soft else 0.0)


def _threshold(g: GraphBuilder, node: Node, out: str) -> None:
    source, dtype = g.name(arg(node, 0)), node.meta["val"].dtype
    above = g.emit("Greater", [source, g.scalar(float(arg(node, 1)), dtype)])
    g.emit("Where", [above, source, g.scalar(float(arg(node, 2)), dtype)], out=out)


def _celu(g: GraphBuilder, node: Node, out: str) -> None:
    g.emit("Celu", [g.name(arg(node, 0))], out=out, alpha=float(arg(node, 1, 1.0)))


# -- arithmetic ----------------------------------------------------------------------------------------------------


def _one_sided(position: int) -> Translation:
    """clamp_min, clamp_max: 1 is the place of the least value among the inputs of Clip, 2 that of the greatest."""

    def rule(g: GraphBuilder, node: Node, out: str) -> None:
        limit = arg(node, 1)
        if isinstance(limit, Node):
            g.emit("Max" if position == 1 else "Min", [g.name(arg(node, 0)), g.name(limit)], out=out)
            return
        inputs = [g.name(arg(node, 0)), *[""] * (position - 1), g.scalar(limit, node.meta["val"].dtype)]
        g.emit("Clip", inputs, out=out)

    return rule


def _log1p(g: GraphBuilder, node: Node, out: str) -> None:
    shifted = g.emit("Add", [g.name(arg(node, 0)), g.scalar(1.0, node.meta["val"].dtype)])
    g.emit("Log", [shifted], out=out)


def _expm1(g: GraphBuilder, node: Node, out: str) -> None:
    grown = g.emit("Exp", [g.name(arg(node, 0))])
    g.emit("Sub", [grown, g.scalar(1.0, node.meta["val"].dtype)], out=out)


def _floor_divide(g: GraphBuilder, node: Node, out: str) -> None:
    """floor(a / b); integer division of ONNX truncates, which is exact once the remainder is taken off."""
    dtype = node.meta["val"].dtype
    whole, divisor = operands(g, node.args[:2], dtype)
    if dtype.is_floating_point:
        g.emit("Floor", [g.emit("Div", [whole, divisor])], out=out)
        return
    g.emit("Div", [g.emit("Sub", [whole, g.emit("Mod", [whole, divisor])]), divisor], out=out)


def _remainder(g: GraphBuilder, node: Node, out: str) -> None:
    """a - floor(a / b) b: the sign is that of b, as in Mod of ONNX, which is for integers."""
    dtype = node.meta["val"].dtype
    whole, divisor = operands(g, node.args[:2], dtype)
    if not dtype.is_floating_point:
        g.emit("Mod", [whole, divisor], out=out)
        return
    times = g.emit("Floor", [g.emit("Div", [whole, divisor])])
    g.emit("Sub", [whole, g.emit("Mul", [times, divisor])], out=out)


def _add_product(g: GraphBuilder, node: Node, out: str) -> None:
    """addcmul: a + value b c."""
    dtype, value = node.meta["val"].dtype, node.kwargs.get("value", 1)
    start, left, right = operands(g, node.args[:3], dtype)
    product = g.emit("Mul", [left, right])
    product = product if value == 1 else g.emit("Mul", [product, g.scalar(value, dtype)])  # type: ignore[arg-type]
    g.emit("Add", [start, product], out=out)


def _einsum(g: GraphBuilder, node: Node, out: str) -> None:
    g.emit("Einsum", [g.name(one) for one in arg(node, 1)], out=out, equation=arg(node, 0))


# -- statistics ----------------------------------------------------------------------------------------------------


def _variance(g: GraphBuilder, node: Node, out: str) -> None:
    """sum (x - mean)² / (n - correction), or its root."""
    source, dtype = arg(node, 0), node.meta["val"].dtype
    axes = axes_of(node, 1, source)
    by_flag = op_name(node).endswith(".dim")
    correction = int(bool(arg(node, 2, True))) if by_flag else node.kwargs.get("correction", 1)
    keep = int(bool(arg(node, 3, False) if by_flag else node.kwargs.get("keepdim", False)))
    sizes = [source.meta["val"].shape[axis] for axis in axes]
    if not all(isinstance(size, int) for size in sizes):
        raise NotTranslated("the variance over a free size")
    name = g.name(source)
    shifted = g.emit("Sub", [name, g.emit("ReduceMean", [name], axes=axes, keepdims=1)])
    mean = g.emit("ReduceMean", [g.emit("Mul", [shifted, shifted])], axes=axes, keepdims=keep)
    count = math.prod(sizes)
    unbiased = [mean, g.scalar(count / (count - float(correction or 0)), dtype)]  # type: ignore[arg-type]
    root = "std" in op_name(node)
    variance = g.emit("Mul", unbiased, out="" if root else out)
    if root:
        g.emit("Sqrt", [variance], out=out)


def _any_along(g: GraphBuilder, node: Node, out: str) -> None:
    if arg(node, 0).meta["val"].dtype != torch.bool:
        raise NotTranslated("any() of numbers")
    axis, keep = arg(node, 1) % rank(arg(node, 0)), int(bool(arg(node, 2, False)))
    numbers = g.emit("Cast", [g.name(arg(node, 0))], to=ELEMENT[torch.int32])
    g.emit("Cast", [g.emit("ReduceMax", [numbers], axes=[axis], keepdims=keep)], out=out, to=ELEMENT[torch.bool])


# -- moving elements -----------------------------------------------------------------------------------------------


def _channel_shuffle(g: GraphBuilder, node: Node, out: str) -> None:
    groups, channels = int(arg(node, 1)), int(node.meta["val"].shape[1])
    split = g.emit("Reshape", [g.name(arg(node, 0)), g.integers([0, groups, channels // groups, -1])])
    turned = g.emit("Transpose", [split], perm=[0, 2, 1, 3])
    g.emit("Reshape", [turned, g.target_shape(node)], out=out)


def _pixel_unshuffle(g: GraphBuilder, node: Node, out: str) -> None:
    factor, shape = int(arg(node, 1)), arg(node, 0).meta["val"].shape
    if len(shape) != 4 or not all(isinstance(size, int) for size in shape[1:]):
        raise NotTranslated("unshuffling pixels of a free size")
    channels, height, width = (int(size) for size in shape[1:])
    sizes = [-1, channels, height // factor, factor, width // factor, factor]
    split = g.emit("Reshape", [g.name(arg(node, 0)), g.integers(sizes)])
    turned = g.emit("Transpose", [split], perm=[0, 1, 3, 5, 2, 4])
    g.emit("Reshape", [turned, g.target_shape(node)], out=out)


def _fmod(g: GraphBuilder, node: Node, out: str) -> None:
    """The remainder with the sign of a, as in C."""
    g.emit("Mod", operands(g, node.args[:2], node.meta["val"].dtype), out=out, fmod=1)


def _scatter(reduction: str = "none") -> Translation:
    """scatter(value, axis, positions, updates): in ONNX as many updates as positions."""

    def rule(g: GraphBuilder, node: Node, out: str) -> None:
        value, axis, positions, updates = (arg(node, i) for i in range(4))
        kind = {"sum": "add", "prod": "mul", "amax": "max", "amin": "min"}.get(str(arg(node, 4, "")), reduction)
        if node.kwargs or len(node.args) > (5 if reduction == "by name" else 4) or kind in ("by name", "max", "min"):
            raise NotTranslated("scatter of this form")
        if isinstance(updates, Node):
            if str(updates.meta["val"].shape) != str(positions.meta["val"].shape):
                raise NotTranslated("scatter with more updates than positions")
            name = g.name(updates)
        else:
            shape = g.emit("Shape", [g.name(positions)])
            name = g.emit("Expand", [g.scalar(updates, node.meta["val"].dtype), shape])
        attributes = {} if kind == "none" else {"reduction": kind}
        g.emit("ScatterElements", [g.name(value), g.name(positions), name], out=out, axis=int(axis), **attributes)

    return rule


def _roll(g: GraphBuilder, node: Node, out: str) -> None:
    """One axis after the other: what leaves at one end comes in at the other."""
    shifts, axes = arg(node, 1), arg(node, 2, [])
    if not axes or not all(isinstance(shift, int) for shift in shifts):
        raise NotTranslated("rolling the flattened tensor, or by a computed number")
    name = g.name(arg(node, 0))
    for number, (shift, axis) in enumerate(zip(shifts, axes, strict=True), start=1):
        axis %= rank(node)
        size = node.meta["val"].shape[axis]
        cut = -shift % int(size) if isinstance(size, int) else -shift
        head = g.emit("Slice", [name, g.integers([0]), g.integers([cut]), g.integers([axis])])
        tail = g.emit("Slice", [name, g.integers([cut]), g.integers([np.iinfo(np.int64).max]), g.integers([axis])])
        name = g.emit("Concat", [tail, head], out=out if number == len(axes) else "", axis=axis)


def _triangle(upper: int) -> Translation:
    def rule(g: GraphBuilder, node: Node, out: str) -> None:
        diagonal = g.constant(np.asarray(arg(node, 1, 0), np.int64))
        g.emit("Trilu", [g.name(arg(node, 0)), diagonal], out=out, upper=upper)

    return rule


def _expand_as(g: GraphBuilder, node: Node, out: str) -> None:
    g.emit("Expand", [g.name(arg(node, 0)), g.emit("Shape", [g.name(arg(node, 1))])], out=out)


def _repeat_interleave(g: GraphBuilder, node: Node, out: str) -> None:
    repeats, axis = arg(node, 1), arg(node, 2)
    if not isinstance(repeats, int) or axis is None:
        raise NotTranslated("repeating each element a computed number of times")
    axis %= rank(node)
    apart = g.emit("Unsqueeze", [g.name(arg(node, 0)), g.integers([axis + 1])])
    tiled = g.emit("Tile", [apart, g.integers([1] * (axis + 1) + [repeats] + [1] * (rank(node) - axis - 1))])
    g.emit("Reshape", [tiled, g.target_shape(node)], out=out)


# -- resizing ------------------------------------------------------------------------------------------------------


def _resize(mode: str) -> Translation:
    """By a factor where one is given, which leaves sizes free; else to the sizes that are known."""
    nearest = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"} if mode == "nearest" else {}

    def rule(g: GraphBuilder, node: Node, out: str) -> None:
        aligned = mode != "nearest" and bool(arg(node, 2))
        factors = arg(node, 2 if mode == "nearest" else 3)
        where: dict[str, Any] = nearest or {
            "coordinate_transformation_mode": "align_corners" if aligned else "pytorch_half_pixel",
            "cubic_coeff_a": -0.75 if mode == "cubic" else None,
        }
        g.emit("Resize", [g.name(arg(node, 0)), "", *_extent(g, node, factors)], out=out, mode=mode, **where)

    return rule


def _extent(g: GraphBuilder, node: Node, factors: Any) -> list[str]:
    """The inputs `scales`, or `scales` and `sizes`, of Resize."""
    source, made = arg(node, 0), node.meta["val"].shape[2:]
    if factors is not None:
        return [g.constant(np.asarray([1, 1, *many(factors, len(made))], np.float32))]
    if not all(isinstance(size, int) for size in made):
        raise NotTranslated("resizing to a computed size")
    return ["", g.sizes([(source, 0), (source, 1), *(int(size) for size in made)])]


LAYERS: Mapping[str, Translation] = {
    "aten.glu": _glu, "aten.selu": unary("Selu"), "aten.selu_": unary("Selu"), "aten.celu": _celu,
    "aten.hardshrink": _shrink, "aten.softshrink": _shrink, "aten.threshold": _threshold,
    "aten.log_sigmoid": _log_sigmoid, "aten.clamp_min": _one_sided(1), "aten.clamp_max": _one_sided(2),
    "aten.clamp_min.Tensor": _one_sided(1), "aten.clamp_max.Tensor": _one_sided(2),
    "aten.log1p": _log1p, "aten.expm1": _expm1, "aten.floor_divide": _floor_divide,
    "aten.remainder.Scalar": _remainder, "aten.remainder.Tensor": _remainder, "aten.addcmul": _add_product,
    "aten.fmod.Scalar": _fmod, "aten.fmod.Tensor": _fmod,
    "aten.scatter.src": _scatter(), "aten.scatter.value": _scatter(), "aten.scatter_add": _scatter("add"),
    "aten.scatter_reduce.two": _scatter("by name"),
    "aten.einsum": _einsum, "aten.any.dim": _any_along,
    **{f"aten.{what}.{form}": _variance for what in ("var", "std") for form in ("dim", "correction")},
    "aten.max_pool3d": TRANSLATIONS["aten.max_pool2d"],
    "aten.conv_transpose3d.input": TRANSLATIONS["aten.conv_transpose2d.input"],
    "aten.expand_as": _expand_as, "aten.swapaxes": TRANSLATIONS["aten.transpose.int"],
    "aten.channel_shuffle": _channel_shuffle, "aten.pixel_unshuffle": _pixel_unshuffle, "aten.roll": _roll,
    "aten.tril": _triangle(0), "aten.triu": _triangle(1), "aten.repeat_interleave.self_int": _repeat_interleave,
    **{f"aten.upsample_nearest{d}d.vec": _resize("nearest") for d in (1, 2, 3)},
    "aten.upsample_linear1d.vec": _resize("linear"), "aten.upsample_bilinear2d.vec": _resize("linear"),
    "aten.upsample_trilinear3d.vec": _resize("linear"), "aten.upsample_bicubic2d.vec": _resize("cubic"),
}  # fmt: skip
"""ATen operator -> translation."""
