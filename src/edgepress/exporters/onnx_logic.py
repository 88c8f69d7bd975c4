"""Operators around the layers, moves and roundings: ATen to ONNX."""

from collections.abc import Mapping

import numpy as np
from torch.fx import Node

from edgepress.exporters.onnx_graph import GraphBuilder, NotTranslated, to_numpy
from edgepress.exporters.onnx_ops import Translation, arg, nothing, rank, same, unary


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


def _global_max_pool(g: GraphBuilder, node: Node, out: str) -> None:
    """adaptive_max_pool to one value; its second result, the positions, has no place in ONNX."""
    if any(size != 1 for size in arg(node, 1)):
        raise NotTranslated("adaptive maximum pooling to more than one value")
    g.emit("GlobalMaxPool", [g.name(arg(node, 0))], out=f"{out}_0")


LOGIC: Mapping[str, Translation] = {
    "aten.squeeze.dims": _squeeze, "aten.squeeze.dim": _squeeze,
    "aten.index_select": _index_select, "aten.index_put": _index_put, "aten.prelu": _prelu,
    "aten.instance_norm": _instance_norm,
    "aten.adaptive_max_pool1d": _global_max_pool, "aten.adaptive_max_pool2d": _global_max_pool,
    "aten.round": unary("Round"), "aten.floor": unary("Floor"), "aten.ceil": unary("Ceil"),
    "aten.sign": unary("Sign"),
    "aten.detach_": same, "aten._assert_tensor_metadata": nothing,
}  # fmt: skip
"""ATen operator -> translation."""
