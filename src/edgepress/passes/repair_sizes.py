"""Sizes written into a graph as constants, made true again after channels were cut."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.fx import Node

from edgepress.analysis import operators
from edgepress.analysis.layout import Dim, Factor, Layout, atoms_of, dim_size
from edgepress.ir.edit import Editor

aten = torch.ops.aten


@dataclass(frozen=True)
class Kept:
    """Layouts before the cut and the atoms that stay.

    Attributes:
        layouts: node name -> layout(s). atoms: per atom, does it stay?
    """

    layouts: Mapping[str, Any]
    atoms: npt.NDArray[np.bool_]

    def size(self, dim: Dim) -> int:
        """Size of a dimension after the cut."""
        sizes = [self._factor_size(factor) for factor in dim]
        return int(np.prod(sizes, dtype=np.int64))

    def _factor_size(self, factor: Factor) -> int:
        if factor.block is None:
            return factor.size
        stays = self.atoms[factor.block.atoms]
        others = tuple(a for a in range(stays.ndim) if a != factor.axis)
        return int(stays.any(axis=others).sum())

    def before(self, dim: Dim, position: int) -> int:
        """How many of the first `position` places of a dimension stay."""
        atoms = atoms_of(dim)
        return position if atoms is None else int(self.atoms[atoms[:position]].sum())

    def changed(self, dim: Dim) -> bool:
        return self.size(dim) != dim_size(dim)


Repair = Callable[[Editor, Node, Kept], None]


def repair(editor: Editor, node: Node, kept: Kept) -> None:
    """Make the constants of one node true again; nodes without any are left alone."""
    rule = RULES.get(node.target)
    if rule is not None:
        rule(editor, node, kept)


def _named(node: Node, name: str) -> tuple[int, Any]:
    """Position and value of an argument by its schema name (its default where it is left out)."""
    schema = node.target._schema.arguments  # type: ignore[union-attr]
    position = next(i for i, a in enumerate(schema) if a.name == name)
    if position < len(node.args):
        return position, node.args[position]
    return position, node.kwargs.get(name, schema[position].default_value)


def _set(editor: Editor, node: Node, position: int, value: Any) -> None:
    """Set an argument, writing out the defaults that come before it."""
    for index in range(len(node.args), position):
        editor.set_arg(node, index, node.target._schema.arguments[index].default_value)  # type: ignore[union-attr]
    editor.set_arg(node, position, value)


def _source(node: Node, kept: Kept) -> Layout:
    return kept.layouts[node.args[0].name]  # type: ignore[union-attr, index]


def _shape(name: str) -> Repair:
    """Operators that take their output sizes as a list called `name`."""

    def rule(editor: Editor, node: Node, kept: Kept) -> None:
        position, old = _named(node, name)
        dims = kept.layouts[node.name]
        dims = dims[len(dims) - len(old) :]
        if any(kept.changed(dim) for dim in dims):
            _set(editor, node, position, [_size(editor, node, s, d, kept) for s, d in zip(old, dims, strict=True)])

    return rule


def _size(editor: Editor, node: Node, old: Any, dim: Dim, kept: Kept) -> Any:
    if old == -1 or not kept.changed(dim):
        return old
    if isinstance(old, Node):  # a free size times constants: scale it exactly by the cut
        whole = editor.call(operator.mul, (old, kept.size(dim)), before=node)
        return editor.call(operator.floordiv, (whole, dim_size(dim)), before=node)
    return kept.size(dim)


def _unflatten(editor: Editor, node: Node, kept: Kept) -> None:
    position, old = _named(node, "sizes")
    at = _named(node, "dim")[1] % len(_source(node, kept))
    dims = kept.layouts[node.name][at : at + len(old)]
    if any(kept.changed(dim) for dim in dims):
        _set(editor, node, position, [_size(editor, node, s, d, kept) for s, d in zip(old, dims, strict=True)])


def _slice(editor: Editor, node: Node, kept: Kept) -> None:
    source = _source(node, kept)
    at = _named(node, "dim")[1] % len(source)
    if not kept.changed(source[at]):
        return
    total = dim_size(source[at])
    start = min(max(_absolute(_named(node, "start")[1] or 0, total), 0), total)
    first = kept.before(source[at], start)
    _set(editor, node, 2, first)
    _set(editor, node, 3, first + kept.size(kept.layouts[node.name][at]))


def _narrow(editor: Editor, node: Node, kept: Kept) -> None:
    source = _source(node, kept)
    at = _named(node, "dim")[1] % len(source)
    if kept.changed(source[at]):
        start = kept.before(source[at], _absolute(_named(node, "start")[1], dim_size(source[at])))
        _set(editor, node, 2, start)
        _set(editor, node, 3, kept.size(kept.layouts[node.name][at]))


def _absolute(index: int, size: int) -> int:
    return index + size if index < 0 else index


def _split(editor: Editor, node: Node, kept: Kept) -> None:
    """Parts that were equal may no longer be: sizes are written out."""
    at = _named(node, "dim")[1] % len(_source(node, kept))
    parts = [layout[at] for layout in kept.layouts[node.name]]
    if any(kept.changed(part) for part in parts):
        sizes = [kept.size(part) for part in parts]
        editor.set_target(node, aten.split_with_sizes.default, (node.args[0], sizes, at))


def _pad(editor: Editor, node: Node, kept: Kept) -> None:
    source, made = _source(node, kept), kept.layouts[node.name]
    position, old = _named(node, "pad")
    new = list(old)
    for i in range(len(old) // 2):
        if old[2 * i] == old[2 * i + 1] == 0:
            continue
        at = len(source) - 1 - i
        total = dim_size(made[at])
        new[2 * i] = kept.before(made[at], old[2 * i])
        new[2 * i + 1] = kept.size(made[at]) - kept.before(made[at], total - old[2 * i + 1])
    if new != list(old):
        _set(editor, node, position, new)


def _groups(per_group: int, total: int) -> Repair:
    """Convolution groups from the new weight: `total` channels in groups of `per_group` (dimensions of the weight)."""

    def rule(editor: Editor, node: Node, kept: Kept) -> None:
        position, old = _named(node, "groups")
        if old == 1:
            return
        weight = kept.layouts[node.args[1].name]  # type: ignore[union-attr, index]
        inputs = _source(node, kept)
        at = len(inputs) - (len(weight) - 2) - 1
        wide = inputs[at] if total == 0 else kept.layouts[node.name][at]
        groups = kept.size(wide) // kept.size(weight[per_group])
        if groups != old:
            _set(editor, node, position, groups)

    return rule


def _group_norm(editor: Editor, node: Node, kept: Kept) -> None:
    """Whole groups went, or the same channels of each: the first if the channels of one group are all there or gone."""
    position, old = _named(node, "num_groups")
    atoms = atoms_of(_source(node, kept)[1])
    if atoms is None:
        return
    groups = int(kept.atoms[atoms.reshape(old, -1)].any(axis=1).sum())
    if groups != old:
        _set(editor, node, position, groups)


def _normalized_shape(editor: Editor, node: Node, kept: Kept) -> None:
    position, old = _named(node, "normalized_shape")
    dims: Sequence[Dim] = _source(node, kept)[-len(old) :]
    new = [kept.size(dim) for dim in dims]
    if new != list(old):
        _set(editor, node, position, new)


def _attention_scale(editor: Editor, node: Node, kept: Kept) -> None:
    """Scores are divided by the root of the width the network was trained with: a narrower head keeps that."""
    _, scale = _named(node, "scale")
    width = _source(node, kept)[-1]
    if scale is None and kept.changed(width):
        editor.set_kwarg(node, "scale", dim_size(width) ** -0.5)


RULES: Mapping[object, Repair] = {
    aten.view.default: _shape("size"),
    aten.reshape.default: _shape("shape"),
    aten._unsafe_view.default: _shape("size"),
    aten.expand.default: _shape("size"),
    aten.zeros.default: _shape("size"),
    aten.ones.default: _shape("size"),
    aten.full.default: _shape("size"),
    aten.new_zeros.default: _shape("size"),
    aten.new_ones.default: _shape("size"),
    aten.new_full.default: _shape("size"),
    aten.unflatten.int: _unflatten,
    aten.slice.Tensor: _slice,
    aten.narrow.default: _narrow,
    aten.split.Tensor: _split,
    aten.split.sizes: _split,
    aten.split_with_sizes.default: _split,
    aten.chunk.default: _split,
    aten.pad.default: _pad,
    aten.constant_pad_nd.default: _pad,
    **dict.fromkeys(operators.CONVOLUTIONS, _groups(per_group=1, total=0)),
    **dict.fromkeys(operators.TRANSPOSED, _groups(per_group=1, total=1)),
    aten.scaled_dot_product_attention.default: _attention_scale,
    aten.group_norm.default: _group_norm,
    aten.layer_norm.default: _normalized_shape,
    aten.rms_norm.default: _normalized_shape,
}
