"""What a network will cost after a cut, without cutting it: every cost is a product of dimension sizes.

A term is `base` (the cost before) with the dimensions that shrink; after a cut it costs
base · Π kept(dimension) / size(dimension).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch.fx import Node

from edgepress.analysis import costs
from edgepress.analysis.channels import ChannelGroups
from edgepress.analysis.layout import Atoms, Dim, blocks_of
from edgepress.ir.program import Program

CostKind = Literal["macs", "params", "bytes", "channels"]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Shrinking:
    """One dimension: its units, how many positions each holds, and positions that always stay."""

    units: Atoms
    counts: Atoms
    size: int

    def kept(self, keep: Mask) -> int:
        return self.size - int(self.counts[~keep[self.units]].sum())


@dataclass(frozen=True, eq=False)
class Term:
    base: float
    dims: tuple[Shrinking, ...]

    def value(self, keep: Mask) -> float:
        cost = self.base
        for dim in self.dims:
            cost *= dim.kept(keep) / dim.size
        return cost

    def add_savings(self, keep: Mask, saved: Floats) -> None:
        """Add to `saved` what removing each single unit would save, the others staying as they are."""
        cost = self.value(keep)
        for dim in self.dims:
            saved[dim.units] += cost * dim.counts / max(dim.kept(keep), 1)


@dataclass(frozen=True)
class CostModel:
    """Costs of one kind as a function of the units kept."""

    terms: tuple[Term, ...]
    units: int

    def total(self, keep: Mask) -> float:
        """The cost of the network that keeps these units."""
        return sum(term.value(keep) for term in self.terms)

    def per_unit(self, keep: Mask) -> Floats:
        """What removing each single unit would save, the others staying as they are."""
        saved = np.zeros(self.units)
        for term in self.terms:
            term.add_savings(keep, saved)
        return saved


def cost_model(program: Program, groups: ChannelGroups, kind: CostKind) -> CostModel:
    """The model of MACs per example, of parameters, of parameter bytes, or of the number of units."""
    if kind == "channels":
        terms: Iterable[Term] = _unit_terms(groups)
    elif kind == "macs":
        terms = _mac_terms(program, groups)
    else:
        terms = _tensor_terms(program, groups, kind == "bytes")
    return CostModel(tuple(terms), groups.units)


def _unit_terms(groups: ChannelGroups) -> Iterator[Term]:
    for group in groups.groups:
        ones = np.ones(group.size, np.int64)
        yield Term(group.size, (Shrinking(np.arange(group.first, group.first + group.size), ones, group.size),))


def _tensor_terms(program: Program, groups: ChannelGroups, in_bytes: bool) -> Iterator[Term]:
    state = program.state()
    for name in program.parameter_names():
        size = state[name].numel() * (state[name].element_size() if in_bytes else 1)
        yield Term(size, shrinking(groups, groups.tensors.get(name, ())))


def _mac_terms(program: Program, groups: ChannelGroups) -> Iterator[Term]:
    batch = costs.batch_size(program)
    for node in program.nodes:
        total = costs.macs(node)
        if total:
            yield from _terms_of(node, groups, total / batch)


def _terms_of(node: Node, groups: ChannelGroups, total: float) -> Iterator[Term]:
    if "attention" in str(node.target):
        yield from _attention_terms(node, groups, total)
        return
    weights = _matrices(node)
    sizes = [np.prod(costs.sizes(w), dtype=float) for w in weights]
    if not weights:
        yield Term(total, shrinking(groups, _product_atoms(node, groups)))
    for weight, size in zip(weights, sizes, strict=True):
        yield Term(total * size / sum(sizes), shrinking(groups, _dim_atoms(groups.layouts[weight.name])))


def _matrices(node: Node) -> list[Node]:
    """The weights whose size the MACs are proportional to; none for a product of two activations."""
    recurrent = len(node.args) > 2 and isinstance(node.args[2], list | tuple)
    if recurrent:
        return [w for w in node.args[2] if isinstance(w, Node) and len(costs.sizes(w)) == 2]  # type: ignore[union-attr]
    name = str(node.target)
    if "conv" in name or "linear" in name:
        return [node.args[1]]  # type: ignore[list-item]
    return []


def _attention_terms(node: Node, groups: ChannelGroups, total: float) -> Iterator[Term]:
    """Scores cost the width of query and key, their sums that of the value."""
    widths = [costs.sizes(n)[-1] for n in (node.args[0], node.args[2])]
    for source, width in zip((node.args[0], node.args[2]), widths, strict=True):
        atoms = _dim_atoms(groups.layouts[source.name])  # type: ignore[union-attr, index]
        yield Term(total * width / sum(widths), shrinking(groups, atoms))


def _product_atoms(node: Node, groups: ChannelGroups) -> list[Atoms]:
    """Channels of the result, and those summed over unless they are the same (heads)."""
    made = _dim_atoms(groups.layouts[node.name])
    left = node.args[1] if "addmm" in str(node.target) else node.args[0]
    summed: Dim = groups.layouts[left.name][-1]  # type: ignore[union-attr, index]
    known = np.unique(np.concatenate([groups.unit_of[atoms] for atoms in made])) if made else np.empty(0, np.int64)
    other = [b.atoms.reshape(-1) for b in blocks_of([summed])]
    return made + [atoms for atoms in other if not np.isin(groups.unit_of[atoms], known[known >= 0]).any()]


def _dim_atoms(layout: Iterable[Dim]) -> list[Atoms]:
    return [block.atoms.reshape(-1) for block in blocks_of(layout)]


def shrinking(groups: ChannelGroups, dims: Sequence[Atoms]) -> tuple[Shrinking, ...]:
    """Those of the dimensions, given by their atoms, that hold units."""
    found = []
    for atoms in dims:
        units, counts = np.unique(groups.unit_of[atoms], return_counts=True)
        free = units >= 0
        if free.any():
            found.append(Shrinking(units[free], counts[free], atoms.size))
    return tuple(found)
