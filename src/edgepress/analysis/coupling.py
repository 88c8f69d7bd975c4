"""How each operator couples the channels of its inputs to those of its outputs: arithmetic, normalisation, attention.

A rule takes the trace and a node and gives the layout of the node's output (or a list of layouts). Operators that only
move elements are in `coupling_moves`. An operator without a rule freezes whatever channels reach it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx import Node

from edgepress.analysis.costs import sizes
from edgepress.analysis.layout import Atoms, Dim, Layout, atoms_of, blocks_of, channels, dim_size, fixed
from edgepress.analysis.trace import Trace

aten = torch.ops.aten
Rule = Callable[[Trace, Node], Any]


def arguments(node: Node) -> dict[str, Any]:
    """The arguments of an ATen call by their schema names, defaults filled in."""
    schema = node.target._schema.arguments  # type: ignore[union-attr]
    bound = {a.name: a.default_value for a in schema if a.has_default_value()}
    bound.update(zip((a.name for a in schema), node.args, strict=False))
    bound.update(node.kwargs)
    return bound


def rank(node: Node) -> int:
    return len(sizes(node))


def settled(trace: Trace, node: Node, position: int) -> tuple[Layout, Atoms | None]:
    """The layout of a node with one dimension made readable, and the atoms of that dimension."""
    layout = trace.settle(trace.layout(node), position)
    return layout, atoms_of(layout[position])


def join(trace: Trace, node: Node, source: Dim, weight: Dim) -> None:
    """Couple the reduced dimension of an input to that of a weight."""
    trace.couple(source, weight, (node.name, "the layer reads channels of a fixed input", "channels made by a layer"))


# -- element by element --------------------------------------------------------------------------------------------


def elementwise(trace: Trace, node: Node) -> Layout:
    """Any number of broadcast tensors: equal positions are coupled."""
    layouts = [trace.layout(n) for n in node.all_input_nodes if hasattr(n.meta.get("val"), "shape")]
    return trace.match(layouts, (node.name, "meets a tensor without channels there", "the same channels on both sides"))


def prelu(trace: Trace, node: Node) -> Layout:
    source, weight = (trace.layout(n) for n in node.args[:2])  # type: ignore[arg-type]
    return trace.match([source, _along_channels(weight, len(source), 1)])


def _along_channels(vector: Layout, dims: int, position: int) -> Layout:
    """A vector of channels placed at dimension `position` of a tensor of `dims` dimensions."""
    return tuple(vector[0] if p == position else () for p in range(dims))


# -- convolution and linear ----------------------------------------------------------------------------------------


def linear(trace: Trace, node: Node) -> Layout:
    bound = arguments(node)
    weight = trace.settle(trace.settle(trace.layout(bound["weight"]), 0), 1)
    source = trace.settle(trace.layout(bound["input"]), rank(bound["input"]) - 1)
    join(trace, node, source[-1], weight[1])
    _bias(trace, bound["bias"], weight[0])
    trace.produce(weight[0], node)
    return (*source[:-1], weight[0])


def _bias(trace: Trace, bias: Node | None, out: Dim) -> None:
    if bias is not None:
        trace.couple(trace.layout(bias)[-1], out)


def convolution(trace: Trace, node: Node) -> Layout:
    return _convolve(trace, node, out=0, reads=1)


def transposed_convolution(trace: Trace, node: Node) -> Layout:
    return _convolve(trace, node, out=1, reads=0)


def _convolve(trace: Trace, node: Node, out: int, reads: int) -> Layout:
    """Weight (out, in / groups, *kernel), or (in, out / groups, *kernel) where transposed."""
    bound = arguments(node)
    weight = trace.settle(trace.settle(trace.layout(bound["weight"]), 0), 1)
    at = rank(bound["input"]) - (len(weight) - 2) - 1
    source = trace.settle(trace.layout(bound["input"]), at)
    spatial = range(at + 1, len(source))
    source = trace.fix_dims(source, spatial, node, "a convolution slides over these channels", "a plain dimension")
    if bound["weight"].op != "placeholder":  # a kernel that is computed keeps its height and width
        weight = trace.fix_dims(weight, range(2, len(weight)), node, "these are places of a kernel", "channels of it")
    if bound["groups"] == 1:
        join(trace, node, source[at], weight[reads])
        made = weight[out]
    else:
        made = _grouped(trace, node, source[at], weight, bound["groups"], transposed=out == 1)
    _bias(trace, bound["bias"], made)
    trace.produce(made, node)
    return (*source[:at], made, *(fixed(size) for size in sizes(node)[at + 1 :]))


def _grouped(trace: Trace, node: Node, source: Dim, weight: Layout, groups: int, transposed: bool) -> Dim:
    """Cut whole groups, or the same channels of every group: whichever leaves more to choose from.

    Depthwise is the case of one channel per group.
    """
    if transposed:
        trace.couple(source, weight[0])
        outs = trace.fresh(groups * sizes(node.args[1])[1]).reshape(groups, -1)
    else:
        outs = _atoms(trace, weight[0], groups)
    ins = atoms_of(source)
    if ins is None:
        needed = "channels made by a layer before it"
        trace.freeze(outs, node.name, "its groups read channels that cannot be cut", needed)
        return channels(outs.reshape(-1))
    ins = ins.reshape(groups, -1)
    if groups >= max(ins.shape[1], outs.shape[1]):
        trace.tie(ins[:, :1], ins)
        trace.tie(ins[:, :1], outs)
    else:
        trace.tie(ins[:1], ins)
        trace.tie(outs[:1], outs)
        trace.tie(_atoms(trace, weight[1], 1), outs if transposed else ins)
    return channels(outs.reshape(-1))


def _atoms(trace: Trace, dim: Dim, rows: int) -> Atoms:
    """The atoms of a dimension in `rows` rows; fresh frozen ones where it has none."""
    atoms = atoms_of(dim)
    if atoms is None:
        atoms = trace.fresh(max(rows, dim_size(dim)))
        trace.freeze(atoms)
    return atoms.reshape(rows, -1)


# -- normalisation -------------------------------------------------------------------------------------------------


def batch_norm(trace: Trace, node: Node) -> Layout:
    bound = arguments(node)
    source = trace.settle(trace.layout(bound["input"]), 1)
    for name in ("weight", "bias", "running_mean", "running_var"):
        if isinstance(bound[name], Node):
            trace.couple(trace.layout(bound[name])[0], source[1])
    return source


def group_norm(trace: Trace, node: Node) -> Layout:
    """Whole groups, or the same channels of every group: whichever leaves more to choose from."""
    bound = arguments(node)
    source = trace.settle(trace.layout(bound["input"]), 1)
    for name in ("weight", "bias"):
        if isinstance(bound[name], Node):
            trace.couple(trace.layout(bound[name])[0], source[1])
    atoms = atoms_of(source[1])
    groups = bound["num_groups"]
    if atoms is not None and groups > 1:
        grid = atoms.reshape(groups, -1)
        trace.tie(*((grid[:, :1], grid) if groups >= grid.shape[1] else (grid[:1], grid)))
    return source


def layer_norm(trace: Trace, node: Node) -> Layout:
    """Also RMS norm: statistics over the channels that remain."""
    bound = arguments(node)
    source = trace.layout(bound["input"])
    count = len(bound["normalized_shape"])
    for position in range(len(source) - count, len(source)):
        source = trace.settle(source, position)
    weights = [trace.layout(bound[k]) for k in ("weight", "bias") if isinstance(bound.get(k), Node)]
    return trace.match([source, *weights], (node.name, "normalises a dimension that is fixed", "channels"))


# -- products ------------------------------------------------------------------------------------------------------


def matmul(trace: Trace, node: Node) -> Layout:
    """(..., n, k) x (..., k, m), also vectors, `bmm` and `mm`."""
    left, right = (_settle_matrix(trace, trace.layout(n)) for n in node.args[:2])  # type: ignore[arg-type]
    summed = right[-2] if len(right) > 1 else right[-1]
    join(trace, node, left[-1], summed)
    columns = right[-1:] if len(right) > 1 else ()
    for dim in columns:
        trace.produce(dim, node)
    return (*_batch(trace, node, [left[:-2], right[:-2]]), *left[-2:-1], *columns)


def _settle_matrix(trace: Trace, layout: Layout) -> Layout:
    """The last two dimensions made readable: the heads before them keep their channels, or these do."""
    settle = trace.settle if trace.attention == "heads" else trace.settle_inside
    for position in range(max(len(layout) - 2, 0), len(layout)):
        layout = settle(layout, position)
    return layout


def _batch(trace: Trace, node: Node, layouts: list[Layout]) -> Layout:
    if not any(layouts):
        return ()
    return trace.match(layouts, (node.name, "its heads meet a dimension without heads", "as many heads on both sides"))


def addmm(trace: Trace, node: Node) -> Layout:
    """bias + (n, k) x (k, m)."""
    bias, left, right = (trace.layout(n) for n in node.args[:3])  # type: ignore[arg-type]
    left, right = trace.settle(left, 1), trace.settle(trace.settle(right, 0), 1)
    join(trace, node, left[1], right[0])
    trace.produce(right[1], node)
    return trace.match([(left[0], right[1]), bias])


def attention(trace: Trace, node: Node) -> Layout:
    """query (..., heads, L, E), key (..., heads, S, E), value (..., heads, S, Ev): heads are cut, or E and Ev.

    A width that something before has settled (rotary positions pair its halves) stays, and heads are cut instead.
    """
    bound = arguments(node)
    tensors = [trace.layout(bound[k]) for k in ("query", "key", "value")]
    found, needed = "attention runs over these channels", "channels in the head dimension"
    tensors = [trace.fix_dims(layout, [len(layout) - 2], node, found, needed) for layout in tensors]
    if trace.attention == "width" and all(blocks_of([layout[-1]]) for layout in tensors):
        tensors = [trace.settle_inside(layout, len(layout) - 1) for layout in tensors]
        trace.couple(tensors[0][-1], tensors[1][-1])
    else:
        tensors = [_keep_width(trace, node, layout) for layout in tensors]
    if bound["enable_gqa"]:
        tensors = _grouped_query(trace, node, tensors)
    mask = [trace.layout(bound["attn_mask"])] if isinstance(bound["attn_mask"], Node) else []
    heads = _batch(trace, node, [*(t[:-2] for t in tensors), *(m[:-2] for m in mask)])
    return (*heads, tensors[0][-2], tensors[2][-1])


def _keep_width(trace: Trace, node: Node, layout: Layout) -> Layout:
    layout = trace.settle(layout, len(layout) - 1)
    return trace.fix_dims(
        layout, [len(layout) - 1], node, "the width of an attention head stays", "a head dimension of its own"
    )


def _grouped_query(trace: Trace, node: Node, tensors: list[Layout]) -> list[Layout]:
    """Query heads follow their key-value head: query (kv x repeat) heads, key and value kv heads."""
    query, key, value = tensors
    at = len(query) - 3
    query = trace.settle(query, at)
    heads, kv = atoms_of(query[at]), sizes(node.args[1])[at]
    if heads is None:
        return [
            query,
            *(trace.fix_dims(t, [at], node, "query heads cannot be cut", "query heads") for t in (key, value)),
        ]
    grid = heads.reshape(kv, -1)
    trace.tie(grid[:, :1], grid)
    for tensor in (key, value):
        trace.couple(channels(grid[:, 0].copy()), trace.settle(tensor, at)[at])
    return [query, *((*t[:at], (), *t[at + 1 :]) for t in (key, value))]


# -- reductions and look-ups ---------------------------------------------------------------------------------------


def reduction(trace: Trace, node: Node) -> Layout:
    """Mean, sum, maximum over some dimensions; over channels, the statistic of those that remain."""
    bound = arguments(node)
    source = trace.layout(bound["self"])
    over = _dims(bound.get("dim"), len(source))
    for position in over:
        source = trace.settle(source, position)
    if bound.get("keepdim"):
        return tuple(() if p in over else dim for p, dim in enumerate(source))
    return tuple(dim for p, dim in enumerate(source) if p not in over)


def _dims(dim: Any, count: int) -> set[int]:
    if dim is None or dim == []:
        return set(range(count))
    return {d % count for d in (dim if isinstance(dim, list | tuple) else [dim])}


def along(trace: Trace, node: Node) -> Layout:
    """Softmax and the like: the dimension they run along must stay."""
    bound = arguments(node)
    source = trace.layout(bound["self"])
    return trace.fix_dims(source, [bound["dim"] % len(source)], node, "runs along these channels", "another dimension")


def pool(trace: Trace, node: Node) -> Any:
    """Pooling and resizing: (batch, channels, *space)."""
    source = trace.layout(node.args[0])  # type: ignore[arg-type]
    value = node.meta["val"]
    outputs = value if isinstance(value, list | tuple) else [value]
    first = len(source) - (1 if "1d" in str(node.target) else 3 if "3d" in str(node.target) else 2)
    source = trace.fix_dims(source, range(first, len(source)), node, "pools over these channels", "a plain dimension")
    layouts = [(*source[:first], *(fixed(s) for s in sizes(v)[first:])) for v in outputs]
    return layouts if isinstance(value, list | tuple) else layouts[0]


def embedding(trace: Trace, node: Node) -> Layout:
    weight, indices = (trace.layout(n) for n in node.args[:2])  # type: ignore[arg-type]
    weight = trace.settle(trace.fix_dims(weight, [0], node, "", ""), 1)
    trace.produce(weight[1], node)
    return (*indices, weight[1])


def _rules() -> Mapping[object, Rule]:
    from edgepress.analysis import operators

    return {
        **dict.fromkeys(operators.ELEMENTWISE, elementwise),
        **dict.fromkeys(operators.REDUCTIONS, reduction),
        **dict.fromkeys(operators.POOLS, pool),
        **dict.fromkeys(operators.ALONG, along),
        **dict.fromkeys(operators.CONVOLUTIONS, convolution),
        **dict.fromkeys(operators.TRANSPOSED, transposed_convolution),
        aten.linear.default: linear,
        aten.prelu.default: prelu,
        aten.batch_norm.default: batch_norm,
        aten.instance_norm.default: batch_norm,
        aten.group_norm.default: group_norm,
        aten.layer_norm.default: layer_norm,
        aten.rms_norm.default: layer_norm,
        aten.matmul.default: matmul,
        aten.bmm.default: matmul,
        aten.mm.default: matmul,
        aten.addmm.default: addmm,
        aten.scaled_dot_product_attention.default: attention,
        aten.embedding.default: embedding,
    }


RULES: Mapping[object, Rule] = _rules()
