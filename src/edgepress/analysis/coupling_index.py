"""How gathering and scattering along an axis carry channels of the other axes along.

torch wants an index for every element, so exporters expand one row of positions over all channels. Such an expansion
follows the channels: its size is repaired when they are cut.
"""

from collections.abc import Mapping, Sequence

import torch
from torch.fx import Node

from edgepress.analysis import operators
from edgepress.analysis.costs import sizes
from edgepress.analysis.coupling import Rule, arguments
from edgepress.analysis.layout import Dim, Layout, fixed
from edgepress.analysis.trace import Trace

aten = torch.ops.aten
POSITIONS = "picks channels by computed position"
WHOLE = "positions that are the same for every channel"


def gather(trace: Trace, node: Node) -> Layout:
    """gather(value, dim, index): positions along `dim`, the same for all entries of another axis where expanded."""
    bound = arguments(node)
    source = trace.layout(bound["self"])
    dim = bound["dim"] % len(source)
    source = _followed(trace, node, source, dim, bound["index"], sizes(bound["self"]))
    return (*source[:dim], fixed(sizes(node)[dim]), *source[dim + 1 :])


def scatter(trace: Trace, node: Node) -> Layout:
    """scatter, scatter_add, scatter_reduce(value, dim, index, src): src lands in value along `dim`."""
    bound = arguments(node)
    target, dim = trace.layout(bound["self"]), bound["dim"] % len(sizes(node))
    target = _followed(trace, node, target, dim, bound["index"], sizes(bound["self"]))
    if not isinstance(bound.get("src"), Node):
        return target
    given = _followed(trace, node, trace.layout(bound["src"]), dim, bound["index"], sizes(bound["src"]))
    others = trace.match([_without(target, dim), _without(given, dim)])
    return (*others[:dim], target[dim], *others[dim + 1 :])


def look_up(trace: Trace, node: Node) -> Layout:
    """`value[..., positions, ...]`: the axes without positions keep their channels (biases of relative positions)."""
    bound = arguments(node)
    source, indices = trace.layout(bound["self"]), bound["indices"]
    at = [axis for axis, index in enumerate(indices) if index is not None]
    if any(indices[axis].meta["val"].dtype in (torch.bool, torch.uint8) for axis in at):
        trace.freeze_layout(source, node.name, "picks channels by a mask", WHOLE)
        return trace.fixed_output(node)
    source = trace.fix_dims(source, at, node, POSITIONS, WHOLE)
    others = tuple(dim for axis, dim in enumerate(source) if axis not in at)
    together = at == list(range(at[0], at[-1] + 1))
    start, count = at[0] if together else 0, len(sizes(node)) - len(others)  # else torch puts the picked axes first
    return (*others[:start], *map(fixed, sizes(node)[start : start + count]), *others[start:])


def _without(layout: Layout, dim: int) -> Layout:
    return (*layout[:dim], (), *layout[dim + 1 :])


def _followed(trace: Trace, node: Node, source: Layout, dim: int, index: Node, wide: Sequence[int]) -> Layout:
    """`source` with channels left only on axes over which the index is expanded; the expansion takes them over."""
    expansion = _expansion(index, node)
    free = set() if expansion is None else _expanded_axes(expansion, wide)
    for axis in range(len(source)):
        if axis == dim or axis not in free:
            source = trace.fix_dims(source, [axis], node, POSITIONS, WHOLE)
        elif expansion is not None:
            source = trace.settle(source, axis)
            trace.layouts[expansion.name] = _with(trace.layout(expansion), axis, source[axis])
    return source


def _with(layout: Layout, axis: int, dim: Dim) -> Layout:
    return (*layout[:axis], dim, *layout[axis + 1 :])


def _expansion(index: Node, reader: Node) -> Node | None:
    """The one expansion an index is computed from, entry by entry (negative positions wrapped), for `reader` alone."""
    seen: set[Node] = set()
    found: set[Node] = set()
    todo = [index]
    while todo:
        node = todo.pop()
        if node in seen or not isinstance(node.meta.get("val"), torch.Tensor):
            continue
        seen.add(node)
        if node.target == aten.expand.default:
            found.add(node)
        elif node.target in operators.ELEMENTWISE:
            todo.extend(node.all_input_nodes)
        else:
            return None
    alone = all(user in seen or user is reader for node in seen for user in node.users)
    return found.pop() if len(found) == 1 and alone else None


def _expanded_axes(expansion: Node, wide: Sequence[int]) -> set[int]:
    """Axes on which one entry was repeated over the whole width of what is read."""
    before, after = sizes(expansion.args[0]), sizes(expansion)
    shift = len(after) - len(before)
    return {
        axis
        for axis, size in enumerate(after)
        if size > 1 and size == wide[axis] and (axis < shift or before[axis - shift] == 1)
    }


RULES: Mapping[object, Rule] = {
    aten.gather.default: gather,
    aten.index.Tensor: look_up,
    aten.scatter.src: scatter,
    aten.scatter.value: scatter,
    aten.scatter_add.default: scatter,
    aten.scatter_reduce.two: scatter,
}
