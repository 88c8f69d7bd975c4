"""Run a program and look at values inside it, one batch at a time, forgetting each value after its last use."""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch.fx import Node
from torch.fx.node import map_arg

from edgepress.ir.program import Program

Look = Callable[[torch.Tensor], torch.Tensor | None]
aten = torch.ops.aten
IMAGE_LAYERS = {aten.conv2d.default, aten.conv2d.padding}
# A view of values that lie otherwise than when they were traced is a copy.
INSTEAD = {aten.view.default: aten.reshape.default}


class Watched:
    """A program that shows values to whoever asked; set up once, run batch by batch.

    Images travel with their channels last where convolutions read them, which takes a fifth off their time. The loop is
    our own because `fx.Interpreter` spends 30 us per node: as much as a small layer, and 5 % of a ResNet-56.
    """

    def __init__(self, program: Program, looks: Mapping[str, Look]) -> None:
        """Each `looks[node name]` sees that node's value in every run; what it gives back takes the value's place."""
        state, names = program.state(), program.state_names()
        self._module, self._looks = program.exported.graph_module, looks
        *self._nodes, self._output = [n for n in program.graph.nodes if n.op != "placeholder"]
        self._inputs = program.user_inputs()
        placeholders = [n for n in program.graph.nodes if n.name in names]
        self._stored: dict[Node, Any] = {n: state[names[n.name]] for n in placeholders}
        self._done = _last_uses([*self._nodes, self._output], {*self._stored, *self._output.all_input_nodes})
        self._images = _reads_images(program)

    def outputs(self, inputs: Sequence[torch.Tensor]) -> Any:
        """The program's outputs."""
        given = _channels_last(inputs) if self._images else inputs
        values = {**self._stored, **dict(zip(self._inputs, given, strict=True))}
        with torch.inference_mode():
            for node in [*values]:
                self._show(node, values)
            for node in self._nodes:
                values[node] = self._compute(node, values)
                self._show(node, values)
                for gone in self._done[node]:
                    del values[gone]
        return map_arg(self._output.args[0], values.__getitem__)

    def _compute(self, node: Node, values: Mapping[Node, Any]) -> Any:
        if node.op == "get_attr":
            return reduce(getattr, str(node.target).split("."), self._module)
        arguments, keywords = map_arg((node.args, node.kwargs), values.__getitem__)
        operator: Any = INSTEAD.get(node.target, node.target)  # type: ignore[call-overload]
        return operator(*arguments, **keywords)

    def _show(self, node: Node, values: dict[Node, Any]) -> None:
        look = self._looks.get(node.name)
        if look is not None and (instead := look(values[node])) is not None:
            values[node] = instead


def _last_uses(nodes: Sequence[Node], kept: set[Node]) -> dict[Node, list[Node]]:
    """Node -> the values that nobody reads after it."""
    done: dict[Node, list[Node]] = {}
    seen = set(kept)
    for node in reversed(nodes):
        done[node] = [value for value in (*node.all_input_nodes, node) if value not in seen]
        seen.update(done[node])
    return {node: list(dict.fromkeys(values)) for node, values in done.items()}


def _reads_images(program: Program) -> bool:
    """Whether there are convolutions over images, and nothing that counts on how values lie in memory."""
    targets = {node.target for node in program.nodes}
    return bool(targets & IMAGE_LAYERS) and aten.as_strided.default not in targets


def _channels_last(inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for t in inputs]
