"""Coupled channel groups: which channels of a network can be removed, and what goes with each of them.

Growth is linear in the sum of all dimension sizes of all weights (not in the number of weights): DepGraph (Fang et al.,
2023) couples layers; here single channels are coupled, so a cut through a concatenation, a split, a padded shortcut or
a channel shuffle needs no special case.
"""

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.fx import Node

from edgepress.analysis import coupling, coupling_einsum, coupling_index, coupling_moves, coupling_recurrent
from edgepress.analysis.layout import Atoms, channels
from edgepress.analysis.pruning_terms import Attention
from edgepress.analysis.trace import Trace
from edgepress.ir.program import Program, Refusal, iter_nodes

RULES = {
    **coupling.RULES,
    **coupling_moves.RULES,
    **coupling_index.RULES,
    **coupling_einsum.RULES,
    **coupling_recurrent.RULES,
}


@dataclass(frozen=True)
class ChannelGroup:
    """Interchangeable units: each removes one or more positions from the same tensor dimensions.

    Attributes:
        name: the weight whose channels they are first. size: number of units.
        first: number of its first unit among the units of all groups.
        members: (tensor, dimension) that shrink with it. producers: the nodes that make its channels.
        least: how many of its units an operator needs.
    """

    name: str
    size: int
    first: int
    members: tuple[tuple[str, int], ...]
    producers: tuple[str, ...]
    least: int = 1

    @property
    def units(self) -> range:
        return range(self.first, self.first + self.size)


@dataclass(frozen=True, eq=False)
class ChannelGroups:
    """All that can be cut, all that cannot, and where each unit lies.

    Attributes:
        groups, refusals: as named. unit_of: atom -> unit, or -1 where it must stay.
        tensors: weight name -> atoms of each dimension. layouts: node name -> layout(s) of its output.
        attention: what attention loses.
    """

    groups: tuple[ChannelGroup, ...]
    refusals: tuple[Refusal, ...]
    unit_of: Atoms
    tensors: Mapping[str, tuple[Atoms, ...]]
    layouts: Mapping[str, Any]
    attention: Attention = "heads"

    @property
    def units(self) -> int:
        """Number of units in all groups."""
        return sum(group.size for group in self.groups)

    def group(self, name: str) -> ChannelGroup:
        return next(g for g in self.groups if g.name == name)

    def tensor_units(self, name: str, dim: int) -> Atoms:
        """The unit at each position of a weight's dimension, -1 where it must stay."""
        return self.unit_of[self.tensors[name][dim]]


def channel_groups(program: Program, attention: Attention = "heads") -> ChannelGroups:
    """Walk the graph once and group its channels.

    Args:
        attention: cut whole heads, or the width that all heads of a layer have (query and key together, value alone).
    """
    trace = walk(program, attention)
    components = trace.solve()
    produced = _components_of(trace, components)
    stay, refusals = _frozen_components(trace, components, produced)
    unit_of, groups = _number_units(trace, components, produced, stay)
    return ChannelGroups(groups, tuple(refusals), unit_of, trace.tensors, trace.layouts, attention)


def walk(program: Program, attention: Attention = "heads") -> Trace:
    """Apply the rule of every node."""
    trace = Trace(attention)
    names, state = program.state_names(), program.state()
    for node in program.graph.nodes:
        if node.op == "placeholder":
            trace.layouts[node.name] = _placeholder(trace, node, names, state)
        elif node.op == "call_function":
            trace.layouts[node.name] = _apply(trace, node)
        elif node.op == "output":
            _freeze_all(trace, node, "is an output of the network", "a layer after it")
    return trace


def _placeholder(trace: Trace, node: Node, names: Mapping[str, str], state: Mapping[str, Any]) -> Any:
    if node.name not in names:
        return trace.fixed_output(node)
    name = names[node.name]
    if name not in trace.tensors:
        trace.tensors[name] = tuple(trace.fresh(size) for size in state[name].shape)
    return tuple(channels(atoms) for atoms in trace.tensors[name])


def _apply(trace: Trace, node: Node) -> Any:
    if node.target is operator.getitem:
        return trace.layouts[node.args[0].name][node.args[1]]  # type: ignore[union-attr, index]
    rule = RULES.get(node.target)
    if rule is not None:
        return rule(trace, node)
    _freeze_all(trace, node, f"no rule says how {node.target} treats channels", "a known operator")
    return trace.fixed_output(node)


def _freeze_all(trace: Trace, node: Node, found: str, needed: str) -> None:
    for source in dict.fromkeys(iter_nodes((*node.args, *node.kwargs.values()))):
        for layout in _layouts(trace.layouts.get(source.name, ())):
            trace.freeze_layout(layout, node.name, found, needed)


def _layouts(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _components_of(trace: Trace, components: Atoms) -> dict[int, str]:
    """Component -> the first node that makes channels in it."""
    produced: dict[int, str] = {}
    for atoms, node in trace.producers:
        for component in np.unique(components[atoms]).tolist():
            produced.setdefault(component, node)
    return produced


def _frozen_components(trace: Trace, components: Atoms, produced: Mapping[int, str]) -> tuple[set[int], list[Refusal]]:
    """Components that must stay; one refusal per layer and reason."""
    stay: set[int] = set()
    reasons: dict[tuple[str, str, str], Refusal] = {}
    known: set[int] = set()
    for frozen in sorted(trace.frozen, key=lambda f: not f.node):
        for component in np.unique(components[frozen.atoms]).tolist():
            stay.add(component)
            if component in produced and component not in known and frozen.node:
                known.add(component)
                layer = produced[component]
                found = f"{frozen.node}: {frozen.found}" if frozen.node != layer else frozen.found
                reasons.setdefault((layer, found, frozen.needed), Refusal(layer, found, frozen.needed))
    return stay, list(reasons.values())


def _number_units(
    trace: Trace, components: Atoms, produced: Mapping[int, str], stay: set[int]
) -> tuple[Atoms, tuple[ChannelGroup, ...]]:
    """Units are free components with a producer; those that touch the same tensor dimensions form a group."""
    free = np.zeros(int(components.max(initial=-1)) + 1, bool)
    free[[c for c in produced if c not in stay]] = True
    signatures = _signatures(trace, components, len(free))
    by_signature: dict[int, list[int]] = {}
    for component in np.flatnonzero(free).tolist():
        by_signature.setdefault(int(signatures[component]), []).append(component)
    unit_of_component = np.full(len(free), -1, np.int64)
    groups: list[ChannelGroup] = []
    members = _members(trace, components, [m for m in by_signature.values() if len(m) > 1])
    first, seen = 0, dict[str, int]()
    for units, touched in members:
        unit_of_component[units] = np.arange(first, first + len(units))
        name = _group_name(touched, trace, seen)
        producers = tuple(dict.fromkeys(produced[u] for u in units))
        groups.append(ChannelGroup(name, len(units), first, touched, producers, _least(trace, components, units)))
        first += len(units)
    return unit_of_component[components], tuple(groups)


def _least(trace: Trace, components: Atoms, units: list[int]) -> int:
    """How many of these units must stay, even if all others that an operator counts along go."""
    needs = [needed for atoms, needed in trace.at_least if np.isin(components[atoms], units).any()]
    return min(max(needs, default=1), len(units))


def _slots(trace: Trace) -> Iterator[tuple[str, int, Atoms]]:
    for name, dims in trace.tensors.items():
        yield from ((name, position, atoms) for position, atoms in enumerate(dims) if atoms.size > 1)


def _signatures(trace: Trace, components: Atoms, count: int) -> Atoms:
    """A 64-bit hash per component of the set of tensor dimensions it touches."""
    signature = np.zeros(count, np.uint64)
    random = np.random.default_rng(0)
    for _, _, atoms in _slots(trace):
        touched = np.unique(components[atoms])
        signature[touched] += random.integers(1, 2**63, dtype=np.uint64)
    return signature.astype(np.int64)


def _members(
    trace: Trace, components: Atoms, groups: list[list[int]]
) -> list[tuple[list[int], tuple[tuple[str, int], ...]]]:
    """Each list of components with the tensor dimensions it touches; groups in order of their first weight."""
    group_of = np.full(int(components.max(initial=-1)) + 1, -1, np.int64)
    for number, units in enumerate(groups):
        group_of[units] = number
    touched: list[list[tuple[str, int]]] = [[] for _ in groups]
    for name, position, atoms in _slots(trace):
        for number in np.unique(group_of[components[atoms]]).tolist():
            if number >= 0:
                touched[number].append((name, position))
    order = sorted(range(len(groups)), key=lambda g: groups[g][0])
    return [(groups[g], tuple(touched[g])) for g in order]


def _group_name(members: tuple[tuple[str, int], ...], trace: Trace, seen: dict[str, int]) -> str:
    """The first matrix that makes the channels (dimension 0; 1 if transposed), numbered where it has several groups."""
    matrices = [m for m in members if len(trace.tensors[m[0]]) > 1]
    name = next((tensor for tensor, dim in matrices if dim == 0), (matrices or members)[0][0])
    seen[name] = seen.get(name, 0) + 1
    return name if seen[name] == 1 else f"{name}#{seen[name]}"


__all__ = ["ChannelGroup", "ChannelGroups", "channel_groups", "walk"]
