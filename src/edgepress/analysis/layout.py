"""Which channels lie where in a tensor: the vocabulary of the channel analysis.

Every position of every weight dimension is an *atom* (an integer). A `Block` is an array of atoms; a tensor dimension
is an ordered list of `Factor`s, outermost first, each either an axis of a block or fixed (batch, space, time: nothing
that can be cut). A dimension of size one has no factors. Examples:

    feature map (batch, 64, 8, 8)         [fixed 2] [atoms 64] [fixed 8] [fixed 8]
    the same after flatten(1)             [fixed 2] [atoms 64, fixed 8, fixed 8]
    128 channels seen as 8 heads of 16    [fixed 2] [block 8x16, axis 0] [fixed 65] [block 8x16, axis 1]

Views and permutations only move factors, so a channel shuffle or a fused query-key-value projection needs no rule.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Atoms = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Block:
    """Atoms in an n-dimensional arrangement. Compared by identity."""

    atoms: Atoms


@dataclass(frozen=True)
class Factor:
    """One factor of a dimension: axis `axis` of `block`, or fixed where `block` is None."""

    size: int
    block: Block | None = None
    axis: int = 0


Dim = tuple[Factor, ...]
Layout = tuple[Dim, ...]


def fixed(size: int) -> Dim:
    """A dimension without channels."""
    return () if size == 1 else (Factor(size),)


def channels(atoms: Atoms) -> Dim:
    """A dimension of one axis of channels."""
    return () if atoms.size == 1 else (Factor(atoms.size, Block(atoms)),)


def fixed_layout(sizes: Iterable[int]) -> Layout:
    return tuple(fixed(size) for size in sizes)


def dim_size(dim: Dim) -> int:
    return math.prod(factor.size for factor in dim)


def blocks_of(dims: Iterable[Dim]) -> list[Block]:
    """The distinct blocks in order of appearance."""
    return list(dict.fromkeys(f.block for dim in dims for f in dim if f.block is not None))


def axes_in(dim: Dim, block: Block) -> list[int]:
    """The axes of `block` that lie in `dim`, outermost first."""
    return [f.axis for f in dim if f.block is block]


def atoms_of(dim: Dim) -> Atoms | None:
    """The atom at each position of `dim`, or None if all of it is fixed. At most one block, all of it in this dim."""
    blocks = blocks_of([dim])
    if not blocks:
        return None
    (block,) = blocks
    order = axes_in(dim, block)
    if len(order) != block.atoms.ndim:
        raise AssertionError("a block reaches beyond the dimension")
    arranged = block.atoms.transpose(order)
    shape = [f.size if f.block is block else 1 for f in dim]
    return np.broadcast_to(arranged.reshape(shape), [f.size for f in dim]).reshape(-1)


def swap_block(layout: Layout, old: Block, new: dict[int, Dim]) -> Layout:
    """`layout` with each factor that is an axis of `old` replaced by the factors given for that axis."""
    return tuple(tuple(g for f in dim for g in (new[f.axis] if f.block is old else (f,))) for dim in layout)


def split_axis(layout: Layout, block: Block, axis: int, pieces: Sequence[int]) -> Layout:
    """`axis` of `block` seen as several axes of the given sizes (outermost first)."""
    shape = block.atoms.shape
    fresh = Block(block.atoms.reshape(*shape[:axis], *pieces, *shape[axis + 1 :]))
    shift = len(pieces) - 1
    new: dict[int, Dim] = {a: (Factor(shape[a], fresh, a + (shift if a > axis else 0)),) for a in range(len(shape))}
    new[axis] = tuple(Factor(size, fresh, axis + i) for i, size in enumerate(pieces))
    return swap_block(layout, block, new)


def take(layout: Layout, block: Block, axis: int, index: int) -> Layout:
    """`layout` with `axis` of `block` (of two axes or more) indexed away."""
    return swap_block(layout, block, _without(block, axis, Block(np.take(block.atoms, index, axis)), ()))


def drop(layout: Layout, block: Block, axis: int) -> Layout:
    """`layout` with `axis` of `block` fixed; the caller ties the atoms along it."""
    fresh = Block(np.take(block.atoms, 0, axis))
    return swap_block(layout, block, _without(block, axis, fresh, fixed(block.atoms.shape[axis])))


def fix_block(layout: Layout, block: Block) -> Layout:
    """`layout` with all of `block` fixed; the caller freezes its atoms."""
    return swap_block(layout, block, {a: fixed(size) for a, size in enumerate(block.atoms.shape)})


def _without(block: Block, axis: int, fresh: Block, instead: Dim) -> dict[int, Dim]:
    new: dict[int, Dim] = {
        a: (Factor(size, fresh, a - (a > axis)),) for a, size in enumerate(block.atoms.shape) if a != axis
    }
    new[axis] = instead
    return new


def common_pieces(one: Sequence[int], other: Sequence[int]) -> list[int] | None:
    """The coarsest sizes that refine both factorisations of one product, or None where there are none.

    [12, 5] and [3, 20] give [3, 4, 5]; [6, 4] and [4, 6] give None.
    """
    left, right, pieces = list(one[::-1]), list(other[::-1]), list[int]()
    while left and right:
        a, b = left.pop(), right.pop()
        small, large = min(a, b), max(a, b)
        if large % small:
            return None
        pieces.append(small)
        if large > small:
            (left if a > b else right).append(large // small)
    return pieces if not (left or right) else None


def refine(layout: Layout, position: int, pieces: Sequence[int]) -> Layout:
    """`layout` with the factors of dimension `position` split into `pieces` (a refinement of their sizes)."""
    queue = list(pieces)
    while any(f.size != size for f, size in zip(layout[position], queue, strict=False)) or len(layout[position]) != len(
        queue
    ):
        at = next(i for i, f in enumerate(layout[position]) if f.size != queue[i])
        layout = _split_factor(layout, position, at, _leading(queue[at:], layout[position][at].size))
    return layout


def _leading(sizes: Sequence[int], product: int) -> list[int]:
    taken: list[int] = []
    while math.prod(taken) < product:
        taken.append(sizes[len(taken)])
    return taken


def _split_factor(layout: Layout, position: int, at: int, pieces: Sequence[int]) -> Layout:
    factor = layout[position][at]
    if factor.block is not None:
        return split_axis(layout, factor.block, factor.axis, pieces)
    dim = layout[position]
    split = (*dim[:at], *(Factor(size) for size in pieces), *dim[at + 1 :])
    return (*layout[:position], split, *layout[position + 1 :])


def _joined(factors: Iterable[Factor]) -> Dim:
    """The same with neighbours that hold no channels as one: they may be split anew, as 8 x 7 into 28 x 2."""
    joined: list[Factor] = []
    for factor in factors:
        if joined and factor.block is None and joined[-1].block is None:
            joined[-1] = Factor(joined[-1].size * factor.size)
        else:
            joined.append(factor)
    return tuple(joined)


def reshape(layout: Layout, sizes: Sequence[int]) -> Layout | None:
    """The layout of a view of these sizes, or None where a factor would be torn apart."""
    flat = _joined(f for dim in layout for f in dim)
    wanted = [size for size in sizes if size != 1]
    pieces = common_pieces([f.size for f in flat], wanted)
    if pieces is None:
        return None
    (flat,) = refine((flat,), 0, pieces)
    dims: list[Dim] = []
    start = 0
    for size in sizes:
        count = len(_leading(pieces[start:], size)) if size != 1 else 0
        dims.append(flat[start : start + count])
        start += count
    return tuple(dims)
