"""How operators that only move elements carry channels along: views, permutations, slices, concatenation, padding."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.fx import Node

from edgepress.analysis.costs import sizes
from edgepress.analysis.coupling import Rule, arguments, rank
from edgepress.analysis.layout import (
    Atoms,
    Block,
    Dim,
    Factor,
    Layout,
    atoms_of,
    blocks_of,
    channels,
    dim_size,
    fixed,
    fixed_layout,
    reshape,
    take,
)
from edgepress.analysis.trace import Trace

aten = torch.ops.aten


def source_of(trace: Trace, node: Node) -> Layout:
    return trace.layout(node.args[0])  # type: ignore[arg-type]


def same(trace: Trace, node: Node) -> Layout:
    return source_of(trace, node)


def view(trace: Trace, node: Node) -> Layout:
    """`view`, `reshape`, `flatten`, `unflatten`: factors are regrouped."""
    source = source_of(trace, node)
    layout = reshape(source, sizes(node))
    if layout is None:
        found = "the view tears channels apart"
        trace.freeze_layout(source, node.name, found, "a view whose sizes are multiples of one another")
        return trace.fixed_output(node)
    _note_products(trace, layout)
    return layout


def view_as(trace: Trace, node: Node) -> Layout:
    """`view_as`, `reshape_as`: the other tensor gives the sizes, so the same channels must be cut from it."""
    layout = view(trace, node)
    pattern = trace.layout(node.args[1])  # type: ignore[arg-type]
    return trace.match([layout, pattern], (node.name, "takes its sizes from another tensor", "the same channels there"))


def _note_products(trace: Trace, layout: Layout, pinned: Block | None = None, axis: int = 0) -> None:
    """The kept atoms of an arrangement must form a grid, and not shrink along a pinned axis."""
    for block in {f.block for dim in layout for f in dim if f.block is not None and f.block.atoms.ndim > 1}:
        trace.products.append((block.atoms, {axis} if block is pinned else set()))


def permute(trace: Trace, node: Node) -> Layout:
    source = source_of(trace, node)
    return tuple(source[d] for d in arguments(node)["dims"])


def transpose(trace: Trace, node: Node) -> Layout:
    dims = list(source_of(trace, node))
    bound = arguments(node)
    one, other = bound["dim0"], bound["dim1"]
    dims[one], dims[other] = dims[other], dims[one]
    return tuple(dims)


def transpose_matrix(trace: Trace, node: Node) -> Layout:
    return tuple(reversed(source_of(trace, node)))


def movedim(trace: Trace, node: Node) -> Layout:
    source, bound = source_of(trace, node), arguments(node)
    origin, goal = ([d % len(source) for d in _as_list(bound[k])] for k in ("source", "destination"))
    rest = iter(d for d in range(len(source)) if d not in origin)
    order = [origin[goal.index(p)] if p in goal else next(rest) for p in range(len(source))]
    return tuple(source[d] for d in order)


def _as_list(value: Any) -> Sequence[int]:
    return value if isinstance(value, list | tuple) else [value]


def unsqueeze(trace: Trace, node: Node) -> Layout:
    source, at = source_of(trace, node), arguments(node)["dim"] % rank(node)
    return (*source[:at], (), *source[at:])


def squeeze(trace: Trace, node: Node) -> Layout:
    """Sizes tell which dimensions went; those of size one have no factors, so any of them may stand for another."""
    source = source_of(trace, node)
    dim = arguments(node).get("dim")
    gone = {d % len(source) for d in _as_list(dim)} if dim is not None else set(range(len(source)))
    before = sizes(node.args[0])
    return tuple(d for p, d in enumerate(source) if p not in gone or before[p] != 1)


def expand(trace: Trace, node: Node) -> Layout:
    """Copies of what holds no channels (a mask for every head, a state of one number) are as many as what they meet."""
    source, shape = source_of(trace, node), sizes(node)
    padded: Layout = ((),) * (len(shape) - len(source)) + source
    holds_channels = any(block.atoms.size > 1 for block in blocks_of(source))
    made = fixed_layout(shape) if holds_channels else created(trace, node)
    return tuple(dim if dim_size(dim) > 1 else new for dim, new in zip(padded, made, strict=True))


def repeat(trace: Trace, node: Node) -> Layout:
    """Dimensions that are repeated must not hold channels."""
    source, shape = source_of(trace, node), sizes(node)
    padded: Layout = ((),) * (len(shape) - len(source)) + source
    before = (1,) * (len(shape) - len(source)) + sizes(node.args[0])
    grown = [p for p in range(len(shape)) if before[p] != shape[p]]
    padded = trace.fix_dims(padded, grown, node, "repeats these channels", "channels that are not repeated")
    return tuple(fixed(shape[p]) if p in grown else dim for p, dim in enumerate(padded))


def select(trace: Trace, node: Node) -> Layout:
    bound = arguments(node)
    return _index(trace, node, bound["dim"], [bound["index"]])[0]


def unbind(trace: Trace, node: Node) -> list[Layout]:
    dim = arguments(node)["dim"]
    return _index(trace, node, dim, range(sizes(node.args[0])[dim]))


def _index(trace: Trace, node: Node, dim: int, indices: Sequence[int]) -> list[Layout]:
    """Take single entries along a dimension; channels in it must stay, but an axis of an arrangement may be indexed."""
    source = source_of(trace, node)
    dim %= len(source)
    if len(source[dim]) == 1 and (block := source[dim][0].block) is not None and block.atoms.ndim > 1:
        axis, size = source[dim][0].axis, source[dim][0].size
        _note_products(trace, source, block, axis)
        rest = (*source[:dim], source[dim], *source[dim + 1 :])
        return [_without_dim(take(rest, block, axis, i % size), dim) for i in indices]
    source = trace.fix_dims(source, [dim], node, "picks single channels by position", "a range of channels")
    return [_without_dim(source, dim) for _ in indices]


def _without_dim(layout: Layout, dim: int) -> Layout:
    return (*layout[:dim], *layout[dim + 1 :])


def slice_(trace: Trace, node: Node) -> Layout:
    bound = arguments(node)
    dim, step = bound["dim"] % rank(node), bound["step"]
    total, size = sizes(node.args[0])[dim], sizes(node)[dim]
    if size == total:
        return source_of(trace, node)
    source, atoms = _settled(trace, node, dim)
    if atoms is None or not isinstance(bound["start"] or 0, int):
        source = trace.fix_dims(source, [dim], node, "slices channels at a free position", "a constant position")
        return _with_dim(source, dim, fixed(size))
    if step != 1:
        source = trace.fix_dims(source, [dim], node, f"takes every {step}th channel", "a range of channels")
        return _with_dim(source, dim, fixed(size))
    start = min(max(_absolute(bound["start"] or 0, total), 0), total)
    return _with_dim(source, dim, channels(atoms[start : start + size]))


def narrow(trace: Trace, node: Node) -> Layout:
    bound = arguments(node)
    dim = bound["dim"] % rank(node)
    source, atoms = _settled(trace, node, dim)
    if atoms is None or not isinstance(bound["start"], int):
        source = trace.fix_dims(source, [dim], node, "slices channels at a free position", "a constant position")
        return _with_dim(source, dim, fixed(sizes(node)[dim]))
    start = _absolute(bound["start"], atoms.size)
    return _with_dim(source, dim, channels(atoms[start : start + sizes(node)[dim]]))


def index_select(trace: Trace, node: Node) -> Layout:
    """Picking entries of a plain dimension by a tensor of indices; channels picked so must stay."""
    dim = arguments(node)["dim"] % rank(node)
    found, needed = "picks channels by computed position", "a range of channels"
    source = trace.fix_dims(source_of(trace, node), [dim], node, found, needed)
    return _with_dim(source, dim, fixed(sizes(node)[dim]))


def flip(trace: Trace, node: Node) -> Layout:
    source = source_of(trace, node)
    over = [d % len(source) for d in arguments(node)["dims"]]
    return trace.fix_dims(source, over, node, "reverses these channels", "channels in order")


def roll(trace: Trace, node: Node) -> Layout:
    source, bound = source_of(trace, node), arguments(node)
    over = [d % len(source) for d in bound["dims"]] or range(len(source))  # without axes all elements turn as one row
    return trace.fix_dims(source, over, node, "turns these channels around", "channels in order")


def metadata_check(trace: Trace, node: Node) -> Layout:
    """An assertion about dtype or device has no result and does not mind how many channels there are; sizes do."""
    bound = arguments(node)
    if bound["size"] is not None or bound["stride"] is not None:
        trace.freeze_layout(trace.layout(bound["a"]), node.name, "asserts this size", "an assertion without sizes")
    return ()


def _absolute(index: int, size: int) -> int:
    return index + size if index < 0 else index


def _settled(trace: Trace, node: Node, dim: int) -> tuple[Layout, Atoms | None]:
    source = trace.settle(source_of(trace, node), dim)
    return source, atoms_of(source[dim])


def _with_dim(layout: Layout, dim: int, new: Dim) -> Layout:
    return (*layout[:dim], new, *layout[dim + 1 :])


def split(trace: Trace, node: Node) -> list[Layout]:
    """`split`, `split_with_sizes`, `chunk`: ranges of channels become tensors of their own."""
    dim = arguments(node)["dim"] % rank(node.args[0])  # type: ignore[arg-type]
    parts = [sizes(v)[dim] for v in node.meta["val"]]
    piece = _arrangement_pieces(trace, node, dim, parts)
    if piece is not None:
        return piece
    source, atoms = _settled(trace, node, dim)
    ends = np.cumsum(parts)
    if atoms is None:
        return [_with_dim(source, dim, fixed(size)) for size in parts]
    return [_with_dim(source, dim, channels(atoms[end - size : end])) for end, size in zip(ends, parts, strict=True)]


def _arrangement_pieces(trace: Trace, node: Node, dim: int, parts: list[int]) -> list[Layout] | None:
    """Ranges along one axis of an arrangement (fused projections per head): that axis is pinned, the others stay."""
    source = source_of(trace, node)
    if len(source[dim]) != 1 or (block := source[dim][0].block) is None or block.atoms.ndim == 1:
        return None
    axis = source[dim][0].axis
    _note_products(trace, source, block, axis)
    starts = np.cumsum([0, *parts])
    layouts = []
    for start, size in zip(starts, parts, strict=False):
        if size == 1:  # one row: an axis of size one has no factor
            layouts.append(take(source, block, axis, int(start)))
            continue
        fresh = Block(np.take(block.atoms, range(start, start + size), axis))
        dims = [
            tuple(Factor(size if f.axis == axis else f.size, fresh, f.axis) if f.block is block else f for f in d)
            for d in source
        ]
        _note_products(trace, tuple(dims), fresh, axis)
        layouts.append(tuple(dims))
    return layouts


def cat(trace: Trace, node: Node) -> Layout:
    bound = arguments(node)
    nodes, dim = bound["tensors"], bound["dim"] % rank(node)
    layouts = [trace.settle(trace.layout(n), dim) for n in nodes]
    parts = [_atoms_or_frozen(trace, layout[dim], sizes(n)[dim]) for n, layout in zip(nodes, layouts, strict=True)]
    others = trace.match([_with_dim(layout, dim, ()) for layout in layouts])
    if all(atoms_of(layout[dim]) is None for layout in layouts):
        return _with_dim(others, dim, fixed(sizes(node)[dim]))
    return _with_dim(others, dim, channels(np.concatenate(parts)))


def _atoms_or_frozen(trace: Trace, dim: Dim, size: int) -> Atoms:
    atoms = atoms_of(dim)
    if atoms is None:
        atoms = trace.fresh(size)
        trace.freeze(atoms)
    return atoms


def stack(trace: Trace, node: Node) -> Layout:
    layouts = [trace.layout(n) for n in arguments(node)["tensors"]]
    at = arguments(node)["dim"] % rank(node)
    merged = trace.match(layouts)
    return (*merged[:at], fixed(len(layouts)), *merged[at:])


def pad(trace: Trace, node: Node) -> Layout:
    """Zeros beside channels are channels too (parameter-free shortcuts): they may be cut with those they meet."""
    bound = arguments(node)
    source = source_of(trace, node)
    for i in range(len(bound["pad"]) // 2):
        dim, before, after = len(source) - 1 - i, bound["pad"][2 * i], bound["pad"][2 * i + 1]
        if before == after == 0:
            continue
        source = trace.settle(source, dim)
        atoms = atoms_of(source[dim])
        if atoms is None:
            source = _with_dim(source, dim, fixed(sizes(node)[dim]))
        elif min(before, after) < 0 or bound.get("mode", "constant") != "constant":
            source = trace.fix_dims(
                source, [dim], node, "pads by copying or cropping channels", "zeros beside channels"
            )
            source = _with_dim(source, dim, fixed(sizes(node)[dim]))
        else:
            padded = np.concatenate([trace.fresh(before), atoms, trace.fresh(after)])
            source = _with_dim(source, dim, channels(padded))
    return source


def pixel_shuffle(trace: Trace, node: Node) -> Layout:
    """(..., C r², H, W) -> (..., C, H r, W r): the r² channels of one output channel go together."""
    source, atoms = _settled(trace, node, len(source_of(trace, node)) - 3)
    shape = sizes(node)
    if atoms is not None:
        grid = atoms.reshape(shape[-3], -1)
        trace.tie(grid[:, :1], grid)
    made = fixed(shape[-3]) if atoms is None else channels(grid[:, 0].copy())
    return (*source[:-3], made, fixed(shape[-2]), fixed(shape[-1]))


def pixel_unshuffle(trace: Trace, node: Node) -> Layout:
    source, atoms = _settled(trace, node, len(source_of(trace, node)) - 3)
    shape = sizes(node)
    made = fixed(shape[-3]) if atoms is None else channels(np.repeat(atoms, shape[-3] // atoms.size))
    return (*source[:-3], made, fixed(shape[-2]), fixed(shape[-1]))


def created(trace: Trace, node: Node) -> Layout:
    """`zeros`, `ones`, `full` of constant sizes, a number expanded: as many channels as whatever they meet."""
    value = node.meta["val"]
    return tuple(
        channels(trace.fresh(int(s))) if isinstance(s, int) and s > 1 else fixed(h)
        for s, h in zip(value.shape, sizes(node), strict=True)
    )


def glu(trace: Trace, node: Node) -> Layout:
    """Halves of a dimension gate one another."""
    dim = arguments(node)["dim"] % rank(node)
    source, atoms = _settled(trace, node, dim)
    if atoms is None:
        return _with_dim(source, dim, fixed(sizes(node)[dim]))
    half = atoms.size // 2
    trace.tie(atoms[:half], atoms[half:])
    return _with_dim(source, dim, channels(atoms[:half]))


RULES: Mapping[object, Rule] = {
    aten.view.default: view,
    aten.reshape.default: view,
    aten._unsafe_view.default: view,
    aten.view_as.default: view_as,
    aten.reshape_as.default: view_as,
    aten.flatten.using_ints: view,
    aten.unflatten.int: view,
    aten.permute.default: permute,
    aten.transpose.int: transpose,
    aten.t.default: transpose_matrix,
    aten.numpy_T.default: transpose_matrix,
    aten.movedim.int: movedim,
    aten.movedim.intlist: movedim,
    aten.unsqueeze.default: unsqueeze,
    aten.squeeze.default: squeeze,
    aten.squeeze.dim: squeeze,
    aten.squeeze.dims: squeeze,
    aten.expand.default: expand,
    aten.repeat.default: repeat,
    aten.select.int: select,
    aten.unbind.int: unbind,
    aten.slice.Tensor: slice_,
    aten.narrow.default: narrow,
    aten.index_select.default: index_select,
    aten.flip.default: flip,
    aten.roll.default: roll,
    aten._assert_tensor_metadata.default: metadata_check,
    aten.split.Tensor: split,
    aten.split.sizes: split,
    aten.split_with_sizes.default: split,
    aten.chunk.default: split,
    aten.cat.default: cat,
    aten.concat.default: cat,
    aten.stack.default: stack,
    aten.pad.default: pad,
    aten.constant_pad_nd.default: pad,
    aten.pixel_shuffle.default: pixel_shuffle,
    aten.pixel_unshuffle.default: pixel_unshuffle,
    aten.zeros.default: created,
    aten.ones.default: created,
    aten.full.default: created,
    aten.new_zeros.default: created,
    aten.new_ones.default: created,
    aten.new_full.default: created,
    aten.glu.default: glu,
}
