"""Run a program and look at values inside it, one batch at a time, forgetting each value after its last use."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.fx import Interpreter, Node

from edgepress.ir.program import Program

Look = Callable[[torch.Tensor], None]


def run_watched(program: Program, inputs: Sequence[torch.Tensor], looks: Mapping[str, Look]) -> Any:
    """The outputs of `program` for `inputs`; each `looks[node name]` sees that node's value on the way."""
    state, names = program.state(), program.state_names()
    given = iter(inputs)
    arguments = [
        state[names[node.name]] if node.name in names else next(given)
        for node in program.graph.nodes
        if node.op == "placeholder"
    ]
    with torch.inference_mode():
        return _Watched(program.exported.graph_module, looks).run(*arguments)


class _Watched(Interpreter):
    """An interpreter that shows values to whoever asked."""

    def __init__(self, module: torch.fx.GraphModule, looks: Mapping[str, Look]) -> None:
        super().__init__(module)
        self._looks = looks

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        look = self._looks.get(n.name)
        if look is not None:
            look(value)
        return value
