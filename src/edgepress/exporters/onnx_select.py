"""Moves, selections, fillings and layers that imported files bring along: ATen to ONNX."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.fx import Node

from edgepress.exporters.onnx_counted import index_by_mask, is_mask
from edgepress.exporters.onnx_graph import ELEMENT, GraphBuilder, NotTranslated, is_size, to_numpy
from edgepress.exporters.onnx_math import axes_of, operands
from edgepress.exporters.onnx_ops import Translation, arg, rank, same, unary

# -- shapes --------------------------------------------------------------------------------------------------------


def _squeeze(g: GraphBuilder, node: Node, out: str) -> None:
    """Every axis of size 1; a free size is not 1."""
    source = arg(node, 0)
    axes = [axis for axis, size in enumerate(source.meta["val"].shape) if isinstance(size, int) and size == 1]
    g.emit("Squeeze", [g.name(source), g.integers(axes)], out=out) if axes else same(g, node, out)


def _narrow(g: GraphBuilder, node: Node, out: str) -> None:
    axis, start, length = int(arg(node, 1)) % rank(node), arg(node, 2), arg(node, 3)
    if isinstance(start, int) and isinstance(length, int):
        # A start below zero counts from the end, where start + length may be 0: the last element, not the first.
        end = g.integers([start + length if start >= 0 or start + length < 0 else 2**63 - 1])
    elif isinstance(start, int) and start < 0:
        raise NotTranslated("a slice of computed length that starts from the end")
    else:
        end = g.emit("Add", [g.sizes([start]), g.sizes([length])])
    g.emit("Slice", [g.name(arg(node, 0)), g.sizes([start]), end, g.integers([axis])], out=out)


def _stack(g: GraphBuilder, node: Node, out: str) -> None:
    axis = int(arg(node, 1, 0)) % rank(node)
    dtype = node.meta["val"].dtype
    parts = [g.emit("Unsqueeze", [name, g.integers([axis])]) for name in operands(g, tuple(arg(node, 0)), dtype)]
    g.emit("Concat", parts, out=out, axis=axis)


def _unbind(g: GraphBuilder, node: Node, out: str) -> None:
    """Several results: their names wait for the `getitem` nodes that pick them."""
    source, axis = g.name(arg(node, 0)), int(arg(node, 1, 0)) % rank(arg(node, 0))
    for index in range(len(node.meta["val"])):
        g.emit("Gather", [source, g.constant(np.asarray(index, np.int64))], out=f"{out}_{index}", axis=axis)


def _gather(g: GraphBuilder, node: Node, out: str) -> None:
    g.emit("GatherElements", [g.name(arg(node, 0)), g.name(arg(node, 2))], out=out, axis=arg(node, 1))


def _index(g: GraphBuilder, node: Node, out: str) -> None:
    """x[:, index], or x[:, rows, columns]: tensors of positions; or a mask."""
    places = {axis: value for axis, value in enumerate(arg(node, 1)) if value is not None}
    if any(is_mask(value) for value in places.values()):
        index_by_mask(g, node, out)
        return
    if any(value.meta["val"].dtype not in (torch.int64, torch.int32) for value in places.values()):
        raise NotTranslated("indexing by tensors of other types")
    if len(places) > 1:
        _index_points(g, node, out, places)
        return
    axis, positions = next(iter(places.items()))
    g.emit("Gather", [g.name(arg(node, 0)), g.name(positions)], out=out, axis=axis)


def _index_points(g: GraphBuilder, node: Node, out: str, places: Mapping[int, Node]) -> None:
    """Indexed axes first, then GatherND; the axes of the positions stand where the first indexed axis stood, or in
    front if others lie between the indexed ones (numpy's rule)."""
    axes, source = list(places), arg(node, 0)
    others = [axis for axis in range(rank(source)) if axis not in places]
    points = max(rank(value) for value in places.values())
    first = axes[0] if axes == list(range(axes[0], axes[-1] + 1)) else 0
    ahead = g.emit("Transpose", [g.name(source)], perm=[*axes, *others])
    picked = g.emit("GatherND", [ahead, _positions(g, list(places.values()))], out="" if first else out)
    if first:
        order = [*range(points, points + first), *range(points), *range(points + first, points + len(others))]
        g.emit("Transpose", [picked], out=out, perm=order)


def _positions(g: GraphBuilder, indices: list[Node]) -> str:
    """Tensors of positions, spread to one shape and side by side."""
    names = operands(g, tuple(indices), torch.int64)
    zero = g.constant(np.asarray(0, np.int64))
    spread = g.emit("Mul", [names[0], zero])
    for name in names[1:]:
        spread = g.emit("Add", [spread, g.emit("Mul", [name, zero])])
    columns = [g.emit("Unsqueeze", [g.emit("Add", [name, spread]), g.integers([-1])]) for name in names]
    return g.emit("Concat", columns, axis=-1)


def _turned(g: GraphBuilder, node: Node, out: str) -> None:
    g.emit("Transpose", [g.name(arg(node, 0))], out=out)


def _flip(g: GraphBuilder, node: Node, out: str) -> None:
    axes = axes_of(node, 1, arg(node, 0))
    count = len(axes)
    bounds = [g.integers(v) for v in ([-1] * count, [-(2**63) + 1] * count, axes, [-1] * count)]
    g.emit("Slice", [g.name(arg(node, 0)), *bounds], out=out)


def _repeat(g: GraphBuilder, node: Node, out: str) -> None:
    counts: Any = arg(node, 1)
    source = g.name(arg(node, 0))
    missing = len(counts) - rank(arg(node, 0))
    source = g.emit("Unsqueeze", [source, g.integers(list(range(missing)))]) if missing else source
    g.emit("Tile", [source, g.sizes(counts)], out=out)


def _filled(value: float | None) -> Translation:
    """zeros, ones and full, of a given shape."""

    def rule(g: GraphBuilder, node: Node, out: str) -> None:
        _fill(g, node, out, arg(node, 1) if value is None else value, g.sizes(node.args[0]))

    return rule


def _filled_like(value: float | None) -> Translation:
    """zeros_like, ones_like and full_like."""

    def rule(g: GraphBuilder, node: Node, out: str) -> None:
        shape = g.emit("Shape", [g.name(arg(node, 0))])
        _fill(g, node, out, arg(node, 1) if value is None else value, shape)

    return rule


def _fill(g: GraphBuilder, node: Node, out: str, filling: Any, shape: str) -> None:
    if not isinstance(filling, bool | int | float) and not is_size(filling):
        raise NotTranslated(f"a tensor filled with {filling}")
    g.emit("Expand", [g.number(filling, node.meta["val"].dtype), shape], out=out)


def _random(op: str) -> Translation:
    """Numbers of another generator than torch's: nobody can expect them to be equal."""

    def rule(g: GraphBuilder, node: Node, out: str) -> None:
        dtype = node.meta["val"].dtype
        like = g.emit("Expand", [g.scalar(0.0, dtype), g.sizes(node.args[0])])
        g.emit(op, [like], out=out, dtype=ELEMENT[dtype])

    return rule


def _arange(g: GraphBuilder, node: Node, out: str) -> None:
    """Numbers in a row: stored where both ends are known, counted while running otherwise."""
    dtype, ends = node.meta["val"].dtype, list(node.args)
    if all(isinstance(value, int | float) for value in ends):
        g.names[node] = g.constant(to_numpy(torch.arange(*ends, dtype=dtype)))  # type: ignore[arg-type]
        return
    start, end, step = (0, *ends, 1) if len(ends) == 1 else (*ends, 1)[:3]
    g.emit("Range", [g.number(value, dtype) for value in (start, end, step)], out=out)


def _scalar(g: GraphBuilder, node: Node, out: str) -> None:
    g.names[node] = g.number(arg(node, 0), node.meta["val"].dtype)


# -- layers --------------------------------------------------------------------------------------------------------


def _group_norm(g: GraphBuilder, node: Node, out: str) -> None:
    """Instance normalization of the groups, then scale and shift per channel (Wu and He 2018, section 3)."""
    source, groups, gamma, beta = (arg(node, i) for i in range(4))
    shape, groups = source.meta["val"].shape, int(groups)
    ones, zeros = (g.constant(np.full(groups, v, np.float32)) for v in (1.0, 0.0))
    grouped = g.emit("Reshape", [g.name(source), g.integers([0, groups, -1])])
    normal = g.emit("InstanceNormalization", [grouped, ones, zeros], epsilon=float(arg(node, 4, 1e-5)))
    if sum(not isinstance(size, int) for size in shape) > 1:
        raise NotTranslated("group normalization of several free sizes")
    last = g.emit("Reshape", [normal, g.target_shape(node)], out=out if gamma is None and beta is None else "")
    for op, weight in (("Mul", gamma), ("Add", beta)):
        if weight is not None:
            spread = g.emit("Reshape", [g.name(weight), g.integers([-1, *[1] * (rank(source) - 2)])])
            last = g.emit(op, [last, spread], out=out if op == "Add" or beta is None else "")


def _rms_norm(g: GraphBuilder, node: Node, out: str) -> None:
    """x / sqrt(mean(x^2) + epsilon) * weight (Zhang and Sennrich 2019, eq. 4); an operator of ONNX since opset 23."""
    source, count, weight = arg(node, 0), len(arg(node, 1)), arg(node, 2)
    name, dtype = g.name(source), node.meta["val"].dtype
    square = g.emit("Mul", [name, name])
    mean = g.emit("ReduceMean", [square], axes=list(range(-count, 0)), keepdims=1)
    shifted = g.emit("Add", [mean, g.scalar(float(arg(node, 3, torch.finfo(dtype).eps)), dtype)])
    normal = g.emit("Div", [name, g.emit("Sqrt", [shifted])], out=out if weight is None else "")
    if weight is not None:
        g.emit("Mul", [normal, g.name(weight)], out=out)


def _pixel_shuffle(g: GraphBuilder, node: Node, out: str) -> None:
    g.emit("DepthToSpace", [g.name(arg(node, 0))], out=out, blocksize=int(arg(node, 1)), mode="CRD")


def _stored_grid(op: str) -> Translation:
    """Quantize or dequantize with a scale that is a tensor of the program."""

    def rule(g: GraphBuilder, node: Node, out: str) -> None:
        scale, zero = g.tensor(arg(node, 1)), g.tensor(arg(node, 2))
        if scale is None or zero is None:
            raise NotTranslated("scales that are computed")
        grid = (scale.float(), zero.to(arg(node, 5)))
        g.emit(op, [g.name(arg(node, 0)), *(g.constant(to_numpy(value.reshape(()))) for value in grid)], out=out)

    return rule


SELECT: Mapping[str, Translation] = {
    "quantized_decomposed.quantize_per_tensor.tensor": _stored_grid("QuantizeLinear"),
    "quantized_decomposed.dequantize_per_tensor.tensor": _stored_grid("DequantizeLinear"),
    "aten.squeeze": _squeeze, "aten.narrow": _narrow, "aten.stack": _stack,
    "aten.unbind.int": _unbind, "aten.gather": _gather, "aten.index.Tensor": _index,
    "aten.scalar_tensor": _scalar, "aten.isnan": unary("IsNaN"),
    "aten.arange": _arange, "aten.arange.start": _arange, "aten.arange.start_step": _arange,
    "aten.lift_fresh_copy": same, "aten.flip": _flip, "aten.repeat": _repeat,
    "aten.zeros": _filled(0.0), "aten.ones": _filled(1.0),
    "aten.full": _filled(None), "aten.zeros_like": _filled_like(0.0), "aten.ones_like": _filled_like(1.0),
    "aten.full_like": _filled_like(None), "aten.rand": _random("RandomUniformLike"),
    "aten.randn": _random("RandomNormalLike"), "aten.feature_dropout": same,
    "aten.group_norm": _group_norm, "aten.rms_norm": _rms_norm, "aten.t": _turned, "aten.pixel_shuffle": _pixel_shuffle,
}  # fmt: skip
"""ATen operator -> translation."""
