"""What the channel analysis writes down on its walk: which atoms live and die together, and which must stay."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch.fx import Node

from edgepress.analysis.costs import sizes
from edgepress.analysis.layout import (
    Atoms,
    Block,
    Factor,
    Layout,
    axes_in,
    blocks_of,
    common_pieces,
    dim_size,
    drop,
    fix_block,
    fixed,
    fixed_layout,
    refine,
)
from edgepress.analysis.pruning_terms import Attention


@dataclass(frozen=True)
class Frozen:
    """Atoms that must stay, and why. `node` is "" where the reason is no surprise (a kernel size, a network input)."""

    atoms: Atoms
    node: str
    found: str
    needed: str


@dataclass
class Trace:
    """The state of one walk. Ties are pairs of atoms; they are solved once, at the end, in linear time.

    Attributes:
        attention: what attention loses where there is a choice, whole heads or the width of all heads.
        atoms: atoms handed out so far. tensors: weight name -> atoms of each of its dimensions.
        layouts: node name -> layout of its output, or a list of layouts. products: (atoms, axes that cannot be cut) of
        arrangements whose kept atoms must form a grid. producers: (atoms, node) of channels a layer makes.
        at_least: (atoms, how many of them must stay).
    """

    attention: Attention = "heads"
    atoms: int = 0
    tensors: dict[str, tuple[Atoms, ...]] = field(default_factory=dict)
    layouts: dict[str, Any] = field(default_factory=dict)
    ties: list[tuple[Atoms, Atoms]] = field(default_factory=list)
    frozen: list[Frozen] = field(default_factory=list)
    products: list[tuple[Atoms, set[int]]] = field(default_factory=list)
    producers: list[tuple[Atoms, str]] = field(default_factory=list)
    at_least: list[tuple[Atoms, int]] = field(default_factory=list)

    # -- looking -------------------------------------------------------------------------------------------------

    def layout(self, node: Node) -> Layout:
        return self.layouts[node.name]

    def fixed_output(self, node: Node) -> Any:
        """A layout of the node's output(s) without any channels."""
        value = node.meta.get("val")
        if isinstance(value, list | tuple):
            return [fixed_layout(sizes(v)) for v in value]
        return fixed_layout(sizes(value)) if hasattr(value, "shape") else ()

    # -- writing -------------------------------------------------------------------------------------------------

    def fresh(self, count: int) -> Atoms:
        self.atoms += count
        return np.arange(self.atoms - count, self.atoms, dtype=np.int64)

    def tie(self, one: Atoms, other: Atoms) -> None:
        """Let atoms at equal positions (after broadcasting) live and die together."""
        one, other = np.broadcast_arrays(one, other)
        self.ties.append((one.reshape(-1), other.reshape(-1)))

    def freeze(self, atoms: Atoms, node: str = "", found: str = "", needed: str = "") -> None:
        self.frozen.append(Frozen(atoms.reshape(-1), node, found, needed))

    def freeze_layout(self, layout: Layout, node: str, found: str, needed: str) -> Layout:
        """Freeze every atom in a tensor; gives back its layout without channels."""
        for block in blocks_of(layout):
            self.freeze(block.atoms, node, found, needed)
        return tuple(fixed(dim_size(dim)) for dim in layout)

    def produce(self, dim: Sequence[Factor], node: Node) -> None:
        """Say that `node` makes these channels: without a producer there is nothing to cut."""
        self.producers.extend((block.atoms.reshape(-1), node.name) for block in blocks_of([tuple(dim)]))

    # -- making layouts simpler ----------------------------------------------------------------------------------

    def drop_axis(self, layout: Layout, block: Block, axis: int) -> Layout:
        """Decide that an axis of an arrangement stays whole: the atoms along it become one unit."""
        if block.atoms.ndim == 1:
            self.freeze(block.atoms)
            return fix_block(layout, block)
        self.tie(np.take(block.atoms, [0], axis), block.atoms)
        return drop(layout, block, axis)

    def settle(self, layout: Layout, position: int, note: tuple[str, str, str] = ("", "", "")) -> Layout:
        """Make dimension `position` readable by `atoms_of`.

        An arrangement that reaches beyond the dimension gives up its axes inside it (heads are cut, not head
        dimensions); of several arrangements in one dimension only the largest stays cuttable.
        """
        for block in blocks_of([layout[position]]):
            inside = axes_in(layout[position], block)
            if len(inside) < block.atoms.ndim:
                layout = self._drop_axes(layout, position)
                return self.settle(layout, position, note)
        blocks = sorted(blocks_of([layout[position]]), key=lambda b: -b.atoms.size)
        for block in blocks[1:]:
            self.freeze(block.atoms, *note)
            layout = fix_block(layout, block)
        return layout

    def settle_inside(self, layout: Layout, position: int) -> Layout:
        """The other way to make a dimension readable: arrangements give up their axes outside of it."""
        for block in blocks_of([layout[position]]):
            inside = axes_in(layout[position], block)
            outside = [axis for axis in range(block.atoms.ndim) if axis not in inside]
            if outside:
                return self.settle_inside(self.drop_axis(layout, block, outside[0]), position)
        return self.settle(layout, position)

    def _drop_axes(self, layout: Layout, position: int) -> Layout:
        for factor in layout[position]:
            if factor.block is not None and len(axes_in(layout[position], factor.block)) < factor.block.atoms.ndim:
                return self.drop_axis(layout, factor.block, factor.axis)
        return layout

    def fix_dims(self, layout: Layout, positions: Iterable[int], node: Node, found: str, needed: str) -> Layout:
        """Make some dimensions channel-free, refusing whatever channels lie there."""
        for position in positions:
            layout = self.settle(layout, position, (node.name, found, needed))
            for block in blocks_of([layout[position]]):
                self.freeze(block.atoms, node.name, found, needed)
                layout = fix_block(layout, block)
        return layout

    def couple(self, dim: Sequence[Factor], other: Sequence[Factor], note: tuple[str, str, str] = ("", "", "")) -> None:
        """Tie two dimensions of equal size position by position; both must be settled."""
        self.match([(tuple(dim),), (tuple(other),)], note)

    def match(self, layouts: Sequence[Layout], note: tuple[str, str, str] = ("", "", "")) -> Layout:
        """Tie tensors that meet element by element under broadcasting; gives the layout of the result.

        Fixed dimensions freeze what they meet.
        """
        rank = max(len(layout) for layout in layouts)
        padded: list[Layout] = [((),) * (rank - len(layout)) + tuple(layout) for layout in layouts]
        for position in range(rank):
            padded = self._common_factors(padded, position, note)
        padded = self._agree(padded, note)
        for places in _shared_blocks(padded):
            for block in places[1:]:
                self.tie(places[0], block)
        return tuple(_widest([layout[p] for layout in padded]) for p in range(rank))

    def _common_factors(self, layouts: list[Layout], position: int, note: tuple[str, str, str]) -> list[Layout]:
        present = [i for i, layout in enumerate(layouts) if layout[position]]
        pieces = [f.size for f in layouts[present[0]][position]] if present else []
        for i in present[1:]:
            finer = common_pieces(pieces, [f.size for f in layouts[i][position]])
            if finer is None:
                return [self._freeze_dim(layout, position, note) for layout in layouts]
            pieces = finer
        return [refine(layout, position, pieces) if i in present else layout for i, layout in enumerate(layouts)]

    def _freeze_dim(self, layout: Layout, position: int, note: tuple[str, str, str]) -> Layout:
        for block in blocks_of([layout[position]]):
            self.freeze(block.atoms, *note)
            layout = fix_block(layout, block)
        whole = fixed(dim_size(layout[position]))
        return (*layout[:position], whole, *layout[position + 1 :])

    def _agree(self, layouts: list[Layout], note: tuple[str, str, str]) -> list[Layout]:
        """Drop axes until, at every place, all tensors have blocks of the same reach, or none has any."""
        while True:
            clash = _clash(layouts)
            if clash is None:
                return layouts
            position, at = clash
            layouts = [self._fix_at(layout, position, at, note) for layout in layouts]

    def _fix_at(self, layout: Layout, position: int, at: int, note: tuple[str, str, str]) -> Layout:
        if at >= len(layout[position]) or (block := layout[position][at].block) is None:
            return layout
        if block.atoms.ndim == 1:
            self.freeze(block.atoms, *note)
            return fix_block(layout, block)
        return self.drop_axis(layout, block, layout[position][at].axis)

    # -- the end -------------------------------------------------------------------------------------------------

    def solve(self) -> Atoms:
        """The component of each atom; arrangements get the ties that make their kept atoms a grid."""
        labels = self._components()
        for atoms, pinned in self.products:
            self._make_grid(atoms, labels, pinned)
        return self._components()

    def _components(self) -> Atoms:
        pairs = [np.concatenate(side) if side else np.empty(0, np.int64) for side in zip(*self.ties, strict=True)]
        one, other = pairs if pairs else (np.empty(0, np.int64),) * 2
        matrix = coo_array((np.ones(len(one), np.int8), (one, other)), shape=(self.atoms, self.atoms))
        return connected_components(matrix, directed=False)[1].astype(np.int64)

    def _make_grid(self, atoms: Atoms, labels: Atoms, pinned: set[int]) -> None:
        """Tie along all axes but the one that leaves most units: a view can only lose whole rows or columns."""
        free = [a for a in range(atoms.ndim) if a not in pinned]
        best = max(free, key=lambda a: _units_along(labels[atoms], a), default=None)
        if best is None:
            self.freeze(atoms)
            return
        rows = np.moveaxis(atoms, best, 0).reshape(atoms.shape[best], -1)
        self.tie(rows[:, :1], rows)


def _units_along(labels: Atoms, axis: int) -> int:
    """Units left if only `axis` may be cut: components of the slices that share a label."""
    rows = np.moveaxis(labels, axis, 0).reshape(labels.shape[axis], -1)
    _, compact = np.unique(rows, return_inverse=True)
    compact = compact.reshape(rows.shape)
    count, columns = rows.shape[0], int(compact.max()) + 1
    source = np.repeat(np.arange(count), rows.shape[1])
    shape = (count + columns, count + columns)
    matrix = coo_array((np.ones(source.size, np.int8), (source, count + compact.reshape(-1))), shape=shape)
    return int(connected_components(matrix, directed=False)[0])


def _reach(layout: Layout, block: Block) -> tuple[tuple[int, int], ...]:
    """The (dimension, factor) places a block covers."""
    return tuple((p, i) for p, dim in enumerate(layout) for i, f in enumerate(dim) if f.block is block)


def _clash(layouts: Sequence[Layout]) -> tuple[int, int] | None:
    """The innermost place where a block meets something of another reach; fixed factors are met first."""
    reaches: dict[tuple[int, int], set[tuple[tuple[int, int], ...]]] = {}
    for layout in layouts:
        for p, dim in enumerate(layout):
            for i, f in enumerate(dim):
                reaches.setdefault((p, i), set()).add(() if f.block is None else _reach(layout, f.block))
    different = [place for place, found in reaches.items() if len(found) > 1]
    with_fixed = [place for place in different if () in reaches[place]]
    return max(with_fixed or different, default=None)


def _shared_blocks(layouts: Sequence[Layout]) -> list[list[Atoms]]:
    """For each set of places covered by blocks: the atoms of each tensor's block, axes in order of the places."""
    shared: dict[tuple[tuple[int, int], ...], list[Atoms]] = {}
    for layout in layouts:
        for block in blocks_of(layout):
            order = [f.axis for dim in layout for f in dim if f.block is block]
            shared.setdefault(_reach(layout, block), []).append(block.atoms.transpose(order))
    return list(shared.values())


def _widest(dims: Sequence[tuple[Factor, ...]]) -> tuple[Factor, ...]:
    return next((dim for dim in dims if dim), ())
