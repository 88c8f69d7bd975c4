"""Execute a program node by node, as far as asked: two programs can be walked in step."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Node
from torch.fx.node import map_arg

from edgepress.ir.program import Program


class Walk:
    """One execution of a program, paused between nodes. Values are forgotten after their last reader.

    Attributes:
        values: what has been computed and is still needed.
    """

    def __init__(self, program: Program, inputs: Sequence[torch.Tensor]) -> None:
        state, names = program.state(), program.state_names()
        given = iter(inputs)
        self._nodes = list(program.graph.nodes)
        self._next = 0
        self._readers = {node: len(node.users) for node in self._nodes}
        self.values: dict[Node, Any] = {
            n: state[names[n.name]].detach() if n.name in names else next(given)
            for n in self._nodes
            if n.op == "placeholder"
        }

    def until(self, name: str) -> Node | None:
        """Compute everything before the node of that name; returns the node, not yet computed."""
        while self._next < len(self._nodes):
            node = self._nodes[self._next]
            if node.name == name:
                return node
            self.compute(node)
        return None

    def arguments(self, node: Node) -> tuple[Any, ...]:
        """The values of the node's positional arguments."""
        return tuple(map_arg(node.args, lambda n: self.values[n]))

    def compute(self, node: Node, arguments: tuple[Any, ...] | None = None) -> None:
        """Compute the node the walk has come to, with other arguments than its own if given."""
        self._next += 1
        if node.op != "call_function":
            return
        own = self.arguments(node) if arguments is None else arguments
        keywords = map_arg(node.kwargs, lambda n: self.values[n])
        with torch.no_grad():
            self.values[node] = node.target(*own, **keywords)  # type: ignore[operator]
        for source in node.all_input_nodes:
            self._readers[source] -= 1
            if not self._readers[source] and source.op != "placeholder":
                del self.values[source]

    def fork(self) -> "Walk":
        """A second walk from here on, over the same values."""
        other = copy.copy(self)
        other.values, other._readers = dict(self.values), dict(self._readers)
        return other

    def finish(self) -> tuple[Any, ...]:
        """Compute all that is left; the program's outputs."""
        self.until("")
        output = self._nodes[-1]
        return tuple(map_arg(output.args[0], lambda n: self.values[n]))

    def recompute(self, node: Node, arguments: tuple[Any, ...]) -> None:
        """Put another value in place of the one the walk has just computed: that of other arguments."""
        keywords = map_arg(node.kwargs, lambda n: self.values[n])
        with torch.no_grad():
            self.values[node] = node.target(*arguments, **keywords)  # type: ignore[operator]
