"""Run a program and look at values inside it, one batch at a time, forgetting each value after its last use."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.fx import Interpreter, Node

from edgepress.ir.program import Program

Look = Callable[[torch.Tensor], None]
aten = torch.ops.aten
IMAGE_LAYERS = {aten.conv2d.default, aten.conv2d.padding}


class Watched(Interpreter):
    """A program that shows values to whoever asked; to be run batch by batch.

    Images travel with their channels last where convolutions read them, which takes a fifth off their time.
    """

    def __init__(self, program: Program, looks: Mapping[str, Look]) -> None:
        """Each `looks[node name]` sees that node's value in every run."""
        super().__init__(program.exported.graph_module)
        state, names = program.state(), program.state_names()
        placeholders = [node.name for node in program.graph.nodes if node.op == "placeholder"]
        self._given = [state[names[name]] if name in names else None for name in placeholders]
        self._images = _reads_images(program)
        self._looks = looks

    def outputs(self, inputs: Sequence[torch.Tensor]) -> Any:
        """The program's outputs."""
        own = iter(_channels_last(inputs) if self._images else inputs)
        with torch.inference_mode():
            return self.run(*(next(own) if tensor is None else tensor for tensor in self._given))

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        look = self._looks.get(n.name)
        if look is not None:
            look(value)
        return value

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target is aten.view.default:  # a view of values that lie otherwise than when they were traced is a copy
            target = aten.reshape.default
        return super().call_function(target, args, kwargs)


def _reads_images(program: Program) -> bool:
    """Whether there are convolutions over images, and nothing that counts on how values lie in memory."""
    targets = {node.target for node in program.nodes}
    return bool(targets & IMAGE_LAYERS) and aten.as_strided.default not in targets


def _channels_last(inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for t in inputs]
