"""Which nodes gain by integers: the cheapest split of a network into integer and float parts, from measured times.

Each node costs something on integers and something in float, and every value that crosses between the two costs a
conversion. The cheapest labelling is a minimum cut (Greig, Porteous & Seheult 1989): the integer side of the cut holds
the nodes that pay.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, maximum_flow
from torch.fx import Node

from edgepress.ir.program import Program
from edgepress.ir.text import op_name
from edgepress.quantize import operands
from edgepress.quantize.place import fusions
from edgepress.targets.capability import Capability

UNIT_US = 0.01  # capacities are integers in hundredths of a microsecond
NEVER = 2**29
SOURCE, SINK = 0, 1


@dataclass(frozen=True)
class Costs:
    """Microseconds on the target.

    Attributes:
        floating, integer: node -> time of its kernel. A node without a float time was fused into another and is free;
            one without an integer time was never seen on integers, which rules them out.
        to_integer, to_float: per value converted. launch: of one more kernel.
    """

    floating: Mapping[str, float]
    integer: Mapping[str, float]
    to_integer: float = 0.0006
    to_float: float = 0.0005
    launch: float = 1.0

    def with_conversions(self, factor: float) -> "Costs":
        """The same with conversions that cost `factor` times as much."""
        return replace(
            self, to_integer=factor * self.to_integer, to_float=factor * self.to_float, launch=factor * self.launch
        )


def losing_nodes(program: Program, capability: Capability, costs: Costs) -> dict[str, str]:
    """Nodes that had better stay float -> why.

    Args:
        program: what `post_training.prepare` gives. costs: what its nodes took on the target.
    """
    cut = _Cut(program, capability, costs)
    return {node: cut.why(node) for node in cut.float_nodes() if node in costs.integer}


class _Cut:
    """The flow network: integer nodes end up on the side of the source."""

    def __init__(self, program: Program, capability: Capability, costs: Costs) -> None:
        self.program, self.capability, self.costs = program, capability, costs
        self.nodes = [n for n in program.nodes if operands.is_float(n)]
        self.leader = _leaders(self.nodes, fusions(program, capability))
        self.vertex = {name: i + 2 for i, name in enumerate(dict.fromkeys(self.leader.values()))}
        self.edges: dict[tuple[int, int], int] = {}
        self.count = len(self.vertex) + 2
        for unit, (floating, integer) in self._unit_costs().items():
            self._edge(SOURCE, self.vertex[unit], floating)
            self._edge(self.vertex[unit], SINK, integer)
        for value in [*program.user_inputs(), *self.nodes]:
            self._conversions(value)
        for node in self.nodes:
            self._follow(node)

    def _unit_costs(self) -> dict[str, tuple[float, float]]:
        """Unit -> (float, integer) microseconds, of all nodes that are fused into it."""
        found = dict.fromkeys(self.vertex, (0.0, 0.0))
        for node in self.nodes:
            floating, integer = found[self.leader[node.name]]
            own = self.costs.integer.get(node.name, float("inf"))
            found[self.leader[node.name]] = (floating + self.costs.floating.get(node.name, 0.0), integer + own)
        return found

    def _conversions(self, value: Node) -> None:
        """One conversion serves all readers on the other side, so each direction gets a vertex of its own."""
        here = self._side(value)
        readers = {self._side(user) for user in value.users if user.op != "output"} - {here}
        shown = any(user.op == "output" for user in value.users)
        if not operands.is_float(value) or not (readers or shown):
            return
        size = _size(value)
        ask, give = self._new(), self._new()
        self._edge(ask, here, self.costs.launch + self.costs.to_integer * size)
        self._edge(here, give, self.costs.launch + self.costs.to_float * size)
        for reader in readers:
            self._edge(reader, ask, NEVER)
            self._edge(give, reader, NEVER)
        if shown:
            self._edge(give, SINK, NEVER)

    def _follow(self, node: Node) -> None:
        """A node that is not quantized by its own right is integer only if all its inputs are."""
        rule = self.capability.rule(op_name(node))
        if rule is None or rule.role == "compute":
            return
        for source in operands.activations(self.program, node):
            if self._side(source) != self._side(node):
                self._edge(self._side(node), self._side(source), NEVER)

    def _side(self, node: Node) -> int:
        """The vertex that decides about a node; what is no float computation stays on the float side."""
        return self.vertex[self.leader[node.name]] if node.name in self.leader else SINK

    def _new(self) -> int:
        self.count += 1
        return self.count - 1

    def _edge(self, start: int, end: int, cost: float) -> None:
        if start == end:
            return
        units = NEVER if cost >= NEVER * UNIT_US else round(cost / UNIT_US)
        self.edges[start, end] = min(NEVER, self.edges.get((start, end), 0) + units)

    def float_nodes(self) -> Iterable[str]:
        """Names of the nodes on the float side of the cheapest cut."""
        rows, columns = np.asarray(list(self.edges), dtype=np.int32).reshape(-1, 2).T
        capacities = np.asarray(list(self.edges.values()), dtype=np.int32)
        graph = csr_matrix((capacities, (rows, columns)), shape=(self.count, self.count))
        residual = graph - maximum_flow(graph, SOURCE, SINK).flow
        residual.data = np.maximum(residual.data, 0)
        residual.eliminate_zeros()
        reached = set(breadth_first_order(residual, SOURCE, return_predecessors=False).tolist())
        return [n.name for n in self.nodes if self._side(n) not in reached]

    def why(self, node: str) -> str:
        """The times behind a decision."""
        unit = self.leader[node]
        floating, integer = self._unit_costs()[unit]
        if integer >= floating:
            return f"measured: {integer:.0f} us on integers, {floating:.0f} us in float"
        return f"measured: it would gain {floating - integer:.0f} us, less than the conversions around it cost"


def _leaders(nodes: Iterable[Node], tails: Mapping[Node, Node]) -> dict[str, str]:
    """Node -> the node it is fused into, or itself."""
    heads = {tail: head for head, tail in tails.items()}
    return {node.name: heads.get(node, node).name for node in nodes}


def _size(value: Node) -> int:
    """Values in a tensor; a free size counts as 1, the batch that is timed."""
    count = 1
    for size in value.meta["val"].shape:
        count *= size if isinstance(size, int) else 1
    return count
