"""Channels that no input changes, or that nothing reads, are taken out of the graph: same outputs, less of everything.

Networks have them after training (a batch norm that went to zero before a ReLU) and after pruning by masks. Bounds of
every channel are followed through the graph in exact integers; a channel whose bounds meet is a constant, which goes
into the biases of those who read it. Going back from the outputs, a channel is needed if a channel that is needed
reads it with a weight other than zero. Padding reads as the zero point: where a constant is not that, and padding
matters, the channel stays.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from edgepress.exporters.c import arithmetic
from edgepress.exporters.c import graph as g
from edgepress.exporters.c.arithmetic import Rounding
from edgepress.exporters.c.graph import Array

MULTIPLE = 4  # channels are kept in fours, as the kernels take them


@dataclass(frozen=True, eq=False)
class Bounds:
    """Of every channel of a tensor: low <= value <= high."""

    low: Array
    high: Array

    @property
    def constant(self) -> Array:
        return np.asarray(self.low == self.high)


def without_dead_channels(graph: g.Graph, rounding: Rounding) -> g.Graph:
    """The graph with those channels only that decide its outputs; it computes the same bytes."""
    bounds = _bounds(graph, rounding)
    kept = _kept(graph, bounds)
    if all(keep.all() for keep in kept.values()):
        return graph
    tensors = {
        name: replace(tensor, shape=(*tensor.shape[:-1], int(kept[name].sum()))) if name in kept else tensor
        for name, tensor in graph.tensors.items()
    }
    ops = []
    for op in graph.ops:
        constants, smaller = _cut(graph, op, bounds, kept)
        tensors |= constants
        ops.append(smaller)
    return replace(graph, tensors=tensors, ops=tuple(ops))


def channels(graph: g.Graph) -> int:
    """Channels of all computed tensors that layers with weights write."""
    return sum(graph.tensor(op.output).shape[-1] for op in graph.ops if isinstance(op, g.Conv | g.Dense))


# --- what kind of operator -------------------------------------------------------------------------------------------


def _mixes(op: g.Op) -> bool:
    """Does every output channel read every input channel, by weights?"""
    return isinstance(op, g.Dense) or (isinstance(op, g.Conv) and op.groups == 1)


def _passes(graph: g.Graph, op: g.Op) -> bool:
    """Does output channel c depend on input channel c alone?"""
    x, y = graph.tensor(op.inputs[0]), graph.tensor(op.output)
    if isinstance(op, g.Conv):
        return op.groups == x.shape[-1] == y.shape[-1]
    if isinstance(op, g.Arithmetic):
        return all(graph.tensor(name).data is None and graph.tensor(name).shape == y.shape for name in op.inputs)
    return isinstance(op, g.Pool | g.Mean | g.Lookup | g.Reshape) and x.shape[-1] == y.shape[-1]


# --- bounds ----------------------------------------------------------------------------------------------------------


def _bounds(graph: g.Graph, rounding: Rounding) -> dict[str, Bounds]:
    found = {name: _any(graph, name) for name in graph.inputs}
    for op in graph.ops:
        rule = _BOUNDS.get(type(op))
        known = rule is not None and (_mixes(op) or _passes(graph, op))
        found[op.output] = rule(graph, op, found, rounding) if rule and known else _any(graph, op.output)
    return found


def _any(graph: g.Graph, name: str) -> Bounds:
    size = graph.tensor(name).shape[-1] if graph.tensor(name).shape else 1
    return Bounds(np.full(size, -128, np.int64), np.full(size, 127, np.int64))


def _sum_bounds(graph: g.Graph, op: g.Op, found: dict[str, Bounds], rounding: Rounding) -> Bounds:
    """Bounds of a layer with weights, from those of its inputs less the zero point."""
    assert isinstance(op, g.Conv | g.Dense)
    x, bias = found[op.inputs[0]], graph.constant(op.inputs[2]).astype(np.int64)
    weight = graph.constant(op.inputs[1]).astype(np.int64)
    zero, padded = graph.tensor(op.inputs[0]).zero_point, isinstance(op, g.Conv) and any(op.pads)
    low, high = x.low - zero, x.high - zero
    if padded:
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    if isinstance(op, g.Conv) and op.groups > 1:
        low, high = low.reshape(-1, 1, 1, 1), high.reshape(-1, 1, 1, 1)
    axes = tuple(range(1, weight.ndim))
    least = bias + np.minimum(weight * low, weight * high).sum(axis=axes)
    most = bias + np.maximum(weight * low, weight * high).sum(axis=axes)
    return _rescaled(graph, op, least, most, rounding)


def _rescaled(graph: g.Graph, op: g.Conv | g.Dense, least: Array, most: Array, rounding: Rounding) -> Bounds:
    shift = np.maximum(np.resize(op.rescale.shift, len(least)), 0)
    if (np.maximum(np.abs(least), np.abs(most)) << shift).max(initial=0) >= 2**31:
        return _any(graph, op.output)  # a sum that wraps has no order
    zero = graph.tensor(op.output).zero_point
    low, high = (np.clip(arithmetic.rescale(end, op.rescale, rounding) + zero, *op.clamp) for end in (least, most))
    return Bounds(low, high)


def _same_bounds(graph: g.Graph, op: g.Op, found: dict[str, Bounds], rounding: Rounding) -> Bounds:
    return found[op.inputs[0]]


def _pool_bounds(graph: g.Graph, op: g.Op, found: dict[str, Bounds], rounding: Rounding) -> Bounds:
    """A maximum or an average lies between its inputs; padding that is counted is a zero point."""
    assert isinstance(op, g.Pool)
    x, zero = found[op.inputs[0]], graph.tensor(op.inputs[0]).zero_point
    counted = op.kind == "average" and op.count_padding and any(op.pads)
    low, high = (np.minimum(x.low, zero), np.maximum(x.high, zero)) if counted else (x.low, x.high)
    return Bounds(np.clip(low, *op.clamp), np.clip(high, *op.clamp))


def _lookup_bounds(graph: g.Graph, op: g.Op, found: dict[str, Bounds], rounding: Rounding) -> Bounds:
    assert isinstance(op, g.Lookup)
    x, table = found[op.inputs[0]], np.asarray(op.table, np.int64)
    parts = [table[low + 128 : high + 129] for low, high in zip(x.low, x.high, strict=True)]
    return Bounds(np.array([p.min() for p in parts]), np.array([p.max() for p in parts]))


_BOUNDS: dict[type[g.Op], Callable[[g.Graph, g.Op, dict[str, Bounds], Rounding], Bounds]] = {
    g.Conv: _sum_bounds,
    g.Dense: _sum_bounds,
    g.Pool: _pool_bounds,
    g.Lookup: _lookup_bounds,
    g.Reshape: _same_bounds,
}


# --- what is kept ----------------------------------------------------------------------------------------------------


def _kept(graph: g.Graph, bounds: dict[str, Bounds]) -> dict[str, Array]:
    """Per tensor that may lose channels: which of them stay."""
    roots = _groups(graph)
    needed = {root: np.zeros(graph.tensor(root).shape[-1], bool) for root in set(roots.values())}
    for name in (*graph.inputs, *graph.outputs, *_fixed(graph)):
        needed[roots[name]][:] = True
    before = -1
    while (
        found := sum(int(keep.sum()) for keep in needed.values())
    ) > before:  # a group may lie on both sides of a layer
        before = found
        for op in reversed([op for op in graph.ops if _mixes(op)]):
            needed[roots[op.inputs[0]]] |= _read(graph, op, bounds, needed[roots[op.output]])
    return {name: _in_fours(needed[root]) for name, root in roots.items()}


def _fixed(graph: g.Graph) -> list[str]:
    """Computed tensors around operators that are neither: they keep all channels."""
    others = [op for op in graph.ops if not (_mixes(op) or _passes(graph, op))]
    return [name for op in others for name in (*graph.activations(op), op.output)]


def _groups(graph: g.Graph) -> dict[str, str]:
    """Computed tensor -> one that has the same channels, as operators that go channel by channel lie between them."""
    roots = {name: name for name in (*graph.inputs, *(op.output for op in graph.ops))}
    for op in graph.ops:
        if _passes(graph, op):
            old, new = [roots[name] for name in op.inputs if name in roots], roots[op.output]
            roots = {name: new if root in old else root for name, root in roots.items()}
    return roots


def _read(graph: g.Graph, op: g.Op, bounds: dict[str, Bounds], wanted: Array) -> Array:
    """Input channels that a mixing layer needs for those of its outputs that are wanted and not constant."""
    weight = graph.constant(op.inputs[1])
    x = bounds[op.inputs[0]]
    rows = weight[wanted & ~bounds[op.output].constant]
    used = (rows != 0).reshape(-1, weight.shape[-1]).any(axis=0)
    padded = isinstance(op, g.Conv) and any(op.pads)
    folds = x.constant & ((x.low == graph.tensor(op.inputs[0]).zero_point) | (not padded))
    return np.asarray(used & ~folds)


def _in_fours(needed: Array) -> Array:
    """With the first of those not needed, up to a multiple of four and at least four."""
    count = max(MULTIPLE, -(-int(needed.sum()) // MULTIPLE) * MULTIPLE)
    kept = needed.copy()
    kept[np.flatnonzero(~needed)[: max(0, count - int(needed.sum()))]] = True
    return kept


# --- cutting ---------------------------------------------------------------------------------------------------------

Kept = dict[str, Array]


def _cut(graph: g.Graph, op: g.Op, bounds: dict[str, Bounds], kept: Kept) -> tuple[dict[str, g.Tensor], g.Op]:
    """An operator without its dead channels, and its new constants."""
    if not isinstance(op, g.Conv | g.Dense) or not (_mixes(op) or _passes(graph, op)):
        return {}, op
    rows, columns = kept[op.output], kept[op.inputs[0]]
    if rows.all() and columns.all():
        return {}, op
    weight, bias = (graph.tensor(name) for name in op.inputs[1:3])
    data, offset = graph.constant(weight.name), graph.constant(bias.name).astype(np.int64)
    if _mixes(op):
        at = bounds[op.inputs[0]].low - graph.tensor(op.inputs[0]).zero_point
        whole = data.astype(np.int64).reshape(len(data), -1, data.shape[-1]).sum(axis=1)
        offset, data = offset + whole[:, ~columns] @ at[~columns], data[..., columns]
    names = (f"{weight.name}:{op.name}", f"{bias.name}:{op.name}")
    scale = tuple(float(step) for step in np.resize(weight.scale, len(rows))[rows])
    values = (np.ascontiguousarray(data[rows]), offset[rows].astype(np.int32))
    constants = {
        names[0]: replace(weight, name=names[0], shape=values[0].shape, scale=scale, data=values[0]),
        names[1]: replace(bias, name=names[1], shape=values[1].shape, data=values[1]),
    }
    cut = replace(op, inputs=(op.inputs[0], *names), rescale=_picked(op.rescale, rows))
    if isinstance(cut, g.Conv) and cut.groups > 1:
        cut = replace(cut, groups=int(rows.sum()))
    return constants, cut


def _picked(rescale: g.Rescale, rows: Array) -> g.Rescale:
    multiplier, shift = (np.resize(values, len(rows))[rows] for values in (rescale.multiplier, rescale.shift))
    return g.Rescale(tuple(map(int, multiplier)), tuple(map(int, shift)))
