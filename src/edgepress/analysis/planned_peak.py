"""The largest sum of activations held at one time, as a function of the channels kept.

A value is held from the node that makes it to the last node that reads it; views share the memory of what they view.
Nothing is computed in place and nothing is fused, so a runtime's own peak is this or less.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.fx import Node

from edgepress.analysis import costs
from edgepress.analysis.channels import ChannelGroups
from edgepress.analysis.layout import Layout, blocks_of
from edgepress.analysis.planned_costs import Floats, Mask, Term, shrinking
from edgepress.ir.program import Program, iter_nodes

aten = torch.ops.aten


@dataclass(frozen=True)
class Lifetime:
    """One stored value: its bytes as a term, and the positions (both inclusive) between which it is held."""

    node: str
    term: Term
    first: int
    last: int


@dataclass(frozen=True)
class PeakModel:
    """Peak of activations in bytes per example. Same questions as `CostModel`.

    Attributes:
        alive: per position in the graph, the indices of the lifetimes held there.
    """

    lifetimes: tuple[Lifetime, ...]
    alive: tuple[Sequence[int], ...]
    units: int

    def total(self, keep: Mask) -> float:
        """The peak of the network that keeps these units."""
        return float(self._held(keep).max(initial=0.0))

    def per_unit(self, keep: Mask) -> Floats:
        """What removing each single unit would take from the values held at the peak."""
        saved = np.zeros(self.units)
        for index in self.alive[int(self._held(keep).argmax())] if self.alive else ():
            self.lifetimes[index].term.add_savings(keep, saved)
        return saved

    def at_peak(self, keep: Mask) -> list[str]:
        """Names of the nodes whose values are held at the peak."""
        return [self.lifetimes[i].node for i in self.alive[int(self._held(keep).argmax())]]

    def _held(self, keep: Mask) -> Floats:
        values = np.array([lifetime.term.value(keep) for lifetime in self.lifetimes])
        return np.array([values[list(indices)].sum() for indices in self.alive])


def peak_model(program: Program, groups: ChannelGroups) -> PeakModel:
    """The model of peak activation memory of one example."""
    nodes = [*program.user_inputs(), *(n for n in program.graph.nodes if n.op in ("call_function", "output"))]
    position = {node: i for i, node in enumerate(nodes)}
    constant = costs.constant_nodes(program)
    stored: dict[Node, int] = {}
    for node in nodes[:-1]:
        if node not in constant and not _shares_memory(node):
            stored[node] = position[node]
    owners = _owners(nodes, stored)
    last = dict(stored)
    for node in nodes:
        for source in iter_nodes((*node.args, *node.kwargs.values())):
            for owner in owners.get(source, ()):
                last[owner] = max(last[owner], position[node])
    batch = costs.batch_size(program)
    lifetimes = [Lifetime(n.name, t, stored[n], last[n]) for n in stored for t in _terms(n, groups, batch)]
    alive = [[i for i, held in enumerate(lifetimes) if held.first <= at <= held.last] for at in range(len(nodes) - 1)]
    return PeakModel(tuple(lifetimes), tuple(alive), groups.units)


def _owners(nodes: Sequence[Node], stored: Mapping[Node, int]) -> dict[Node, tuple[Node, ...]]:
    """The stored values that each node's result lies in."""
    owners: dict[Node, tuple[Node, ...]] = {}
    for node in nodes:
        if node in stored:
            owners[node] = (node,)
        elif node.op == "call_function":
            sources = iter_nodes((*node.args, *node.kwargs.values()))
            owners[node] = tuple(dict.fromkeys(o for source in sources for o in owners.get(source, ())))
    return owners


def _shares_memory(node: Node) -> bool:
    """Whether the result is (part of) its input: the schema says which outputs alias an input."""
    if node.op != "call_function":
        return False
    schema = getattr(node.target, "_schema", None)
    if schema is None:  # an element of a tuple
        return True
    return bool(schema.returns) and all(r.alias_info is not None for r in schema.returns)


def _terms(node: Node, groups: ChannelGroups, batch: int) -> Iterator[Term]:
    """One term per output tensor."""
    value, layouts = node.meta.get("val"), groups.layouts[node.name]
    values = list(value) if isinstance(value, list | tuple) else [value]
    for tensor, layout in zip(values, layouts if isinstance(layouts, list) else [layouts], strict=False):
        if isinstance(tensor, torch.Tensor):
            size = float(np.prod(costs.sizes(tensor), dtype=float)) * tensor.element_size()
            yield Term(size / batch, shrinking(groups, _atoms(layout)))


def _atoms(layout: Layout) -> list[np.ndarray]:
    return [block.atoms.reshape(-1) for block in blocks_of(layout)]
