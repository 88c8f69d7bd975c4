"""Comparisons, selections, reductions and other operators around the layers: ATen to ONNX."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.fx import Node

from edgepress.exporters.onnx_graph import ARITHMETIC, GraphBuilder, NotTranslated, to_numpy
from edgepress.exporters.onnx_ops import Translation, arg, nothing, operand, rank, same, unary


def _compare(op: str) -> Translation:
    """Both operands in the type torch compares them in."""

    def rule(g: GraphBuilder, node: Node, out: str) -> None:
        types = {a.meta["val"].dtype for a in node.args[:2] if isinstance(a, Node)}
        if len(types) > 1:
            raise NotTranslated(f"{node.target} of different types")
        like = types.pop()
        pair: list[Any] = list(node.args[:2])
        names = [g.name(a) if isinstance(a, Node) else g.scalar(a, like) for a in pair]
        g.emit(op, names, out=out)

    return rule


def _extremum(op: str) -> Translation:
    def rule(g: GraphBuilder, node: Node, out: str) -> None:
        g.emit(op, [operand(g, node, a) for a in node.args[:2]], out=out)

    return rule


def _where(g: GraphBuilder, node: Node, out: str) -> None:
    g.emit("Where", [g.name(arg(node, 0)), *(operand(g, node, a) for a in node.args[1:3])], out=out)


def _sum(g: GraphBuilder, node: Node, out: str) -> None:
    axes = arg(node, 1) or list(range(rank(arg(node, 0))))
    names = [g.name(arg(node, 0)), g.integers([int(a) % rank(arg(node, 0)) for a in axes])]
    g.emit("ReduceSum", names, out=out, keepdims=int(bool(arg(node, 2, False))))


def _extreme_along(op: str) -> Translation:
    def rule(g: GraphBuilder, node: Node, out: str) -> None:
        axes: Any = arg(node, 1, list(range(rank(arg(node, 0)))))
        axes = [axes] if isinstance(axes, int) else axes
        g.emit(op, [g.name(arg(node, 0))], out=out, axes=[int(a) % rank(arg(node, 0)) for a in axes],
               keepdims=int(bool(arg(node, 2, False))))  # fmt: skip

    return rule


def _squeeze(g: GraphBuilder, node: Node, out: str) -> None:
    """Axes that are not of size 1 stay."""
    source, axes = arg(node, 0), arg(node, 1)
    shape = source.meta["val"].shape
    axes = [int(a) % rank(source) for a in (axes if isinstance(axes, list | tuple) else [axes])]
    # torch found a free size to be 1 where it took the axis away.
    single = axes if rank(node) == rank(source) - len(axes) else [a for a in axes if str(shape[a]) == "1"]
    if not single:
        same(g, node, out)
        return
    g.emit("Squeeze", [g.name(source), g.integers(single)], out=out)


def _index_select(g: GraphBuilder, node: Node, out: str) -> None:
    g.emit("Gather", [g.name(arg(node, 0)), g.name(arg(node, 2))], out=out, axis=int(arg(node, 1)) % rank(node))


def _index_put(g: GraphBuilder, node: Node, out: str) -> None:
    """index_put(value, indices of the leading axes, updates): the indices side by side, as ScatterND wants them."""
    indices, updates = arg(node, 1), arg(node, 2)
    shapes = {tuple(map(str, i.meta["val"].shape)) if isinstance(i, Node) else () for i in indices}
    behind = tuple(map(str, node.meta["val"].shape[len(indices) :]))
    if (
        len(shapes) > 1
        or arg(node, 3, False)
        or any(i is None or i.meta["val"].dtype.is_floating_point for i in indices)
    ):
        raise NotTranslated("index_put of this form")
    if tuple(map(str, updates.meta["val"].shape)) != (*next(iter(shapes)), *behind):
        raise NotTranslated("index_put with updates to be spread")
    last = g.integers([-1])
    columns = [g.emit("Unsqueeze", [g.name(i), last]) for i in indices]
    joined = columns[0] if len(columns) == 1 else g.emit("Concat", columns, axis=-1)
    g.emit("ScatterND", [g.name(arg(node, 0)), joined, g.name(updates)], out=out)


def _prelu(g: GraphBuilder, node: Node, out: str) -> None:
    slope = g.tensor(arg(node, 1))
    if slope is None:
        raise NotTranslated("slopes that are computed")
    shaped = to_numpy(slope).reshape(-1, *[1] * (rank(node) - 2)) if slope.numel() > 1 else to_numpy(slope).reshape(1)
    g.emit("PRelu", [g.name(arg(node, 0)), g.constant(shaped, "slope")], out=out)


def _instance_norm(g: GraphBuilder, node: Node, out: str) -> None:
    """instance_norm(value, gamma, beta, mean, variance, own statistics?, momentum, epsilon)."""
    if not arg(node, 5, True):
        raise NotTranslated("instance_norm with stored statistics")
    channels = int(node.meta["val"].shape[1])
    gamma, beta = (
        g.constant(np.full(channels, value, np.float32)) if arg(node, i) is None else g.name(arg(node, i))
        for i, value in ((1, 1.0), (2, 0.0))
    )
    g.emit("InstanceNormalization", [g.name(arg(node, 0)), gamma, beta], out=out, epsilon=float(arg(node, 7, 1e-5)))


def _argmax(g: GraphBuilder, node: Node, out: str) -> None:
    if arg(node, 1) is None:
        raise NotTranslated("argmax over all axes")
    g.emit("ArgMax", [g.name(arg(node, 0))], out=out, axis=int(arg(node, 1)), keepdims=int(bool(arg(node, 2, False))))


def _rand(g: GraphBuilder, node: Node, out: str) -> None:
    """Uniform numbers of a shape that may be free."""
    zeros = g.emit("ConstantOfShape", [g.sizes(arg(node, 0))])
    g.emit("RandomUniformLike", [zeros], out=out)


def _zeros(g: GraphBuilder, node: Node, out: str) -> None:
    if node.meta["val"].dtype != torch.float32:
        raise NotTranslated("zeros of another type than float32")
    g.emit("ConstantOfShape", [g.sizes(arg(node, 0))], out=out)


def _global_max_pool(g: GraphBuilder, node: Node, out: str) -> None:
    """adaptive_max_pool to one value; its second result, the positions, has no place in ONNX."""
    if any(size != 1 for size in arg(node, 1)):
        raise NotTranslated("adaptive maximum pooling to more than one value")
    g.emit("GlobalMaxPool", [g.name(arg(node, 0))], out=f"{out}_0")


LOGIC: Mapping[str, Translation] = {
    **{f"aten.{name}.{form}": _compare(op) for form in ("Tensor", "Scalar") for name, op in (
        ("eq", "Equal"), ("lt", "Less"), ("gt", "Greater"), ("le", "LessOrEqual"), ("ge", "GreaterOrEqual"))},
    "aten.minimum": _extremum("Min"), "aten.maximum": _extremum("Max"),
    "aten.where.self": _where, "aten.where.ScalarOther": _where, "aten.where.ScalarSelf": _where,
    "aten.where.Scalar": _where,
    "aten.logical_not": unary("Not"),
    "aten.sum.dim_IntList": _sum, "aten.amax": _extreme_along("ReduceMax"), "aten.amin": _extreme_along("ReduceMin"),
    "aten.squeeze.dims": _squeeze, "aten.squeeze.dim": _squeeze,
    "aten.index_select": _index_select, "aten.index_put": _index_put, "aten.prelu": _prelu, "aten.argmax": _argmax,
    "aten.rand": _rand, "aten.zeros": _zeros, "aten.instance_norm": _instance_norm,
    "aten.adaptive_max_pool1d": _global_max_pool, "aten.adaptive_max_pool2d": _global_max_pool,
    "aten.round": unary("Round"), "aten.floor": unary("Floor"), "aten.ceil": unary("Ceil"),
    "aten.sign": unary("Sign"), "aten.reciprocal": unary("Reciprocal"), "aten.erf": unary("Erf"),
    "aten.sin": unary("Sin"), "aten.cos": unary("Cos"),
    "aten.detach_": same, "aten._assert_tensor_metadata": nothing,
    # Sizes are computed where a shape asks for them (GraphBuilder.sizes).
    **dict.fromkeys(ARITHMETIC, nothing),
}  # fmt: skip
"""ATen operator -> translation."""
