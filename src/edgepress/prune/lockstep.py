"""Run a graph step by step over all calibration batches at once, so that weights can be refitted on the way.

Only values that later nodes still read are kept.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.node import map_arg

from edgepress.ir.program import Program

Batches = Sequence[tuple[Tensor, ...]]


class Walker:
    """Walks the nodes of a program in order, holding the values of every batch.

    Attributes:
        state: weights by name, read at the moment a node runs; replace entries to change what follows.
    """

    def __init__(self, program: Program, batches: Batches, pinned: Iterable[str] = ()) -> None:
        self.state: dict[str, Tensor] = {name: t.detach() for name, t in program.state().items()}
        self._names = program.state_names()
        self._nodes = [n for n in program.graph.nodes if n.op == "call_function"]
        self._by_name = {n.name: n for n in program.graph.nodes}
        self._place = {n.name: i for i, n in enumerate(self._nodes)}
        self._position = 0
        self._values: list[dict[Node, Any]] = [
            dict(zip(program.user_inputs(), batch, strict=True)) for batch in batches
        ]
        self._pinned = set(pinned)
        self._last_reader = _last_readers(self._nodes)

    def advance(self, name: str) -> None:
        """Run up to and including the node of that name."""
        with torch.no_grad():
            while not self._done(name):
                node = self._nodes[self._position]
                for values in self._values:
                    values[node] = self._run(node, values)
                self._position += 1
                self._forget(node)

    def rerun(self, names: Sequence[str]) -> None:
        """Run nodes again that were passed already, their inputs still being held."""
        with torch.no_grad():
            for name in names:
                for values in self._values:
                    values[self._by_name[name]] = self._run(self._by_name[name], values)

    def values(self, name: str) -> list[Any]:
        """The value of a held node, per batch."""
        return [values[self._by_name[name]] for values in self._values]

    def release(self, names: Iterable[str]) -> None:
        """Stop holding nodes that were pinned, if nobody reads them any more."""
        for name in names:
            self._pinned.discard(name)
            self._drop_if_dead(self._by_name[name])

    def _done(self, name: str) -> bool:
        return self._place.get(name, -1) < self._position  # inputs have no place: they are there from the start

    def _run(self, node: Node, values: Mapping[Node, Any]) -> Any:
        def load(source: Node) -> Any:
            return self.state[self._names[source.name]] if source.name in self._names else values[source]

        args, kwargs = map_arg(node.args, load), map_arg(node.kwargs, load)
        return node.target(*args, **kwargs)  # type: ignore[operator]

    def _forget(self, node: Node) -> None:
        for source in {*node.all_input_nodes, node}:
            self._drop_if_dead(source)

    def _drop_if_dead(self, node: Node) -> None:
        if node.name not in self._pinned and self._last_reader.get(node, 10**12) < self._position:
            for values in self._values:
                values.pop(node, None)


def _last_readers(nodes: Sequence[Node]) -> dict[Node, int]:
    """Position of the last node that reads each node; nodes read by nobody but the output are not listed."""
    return {source: position for position, node in enumerate(nodes) for source in node.all_input_nodes}
