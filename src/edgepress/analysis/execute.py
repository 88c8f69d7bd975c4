"""Run a program's graph node by node, to look at values and gradients inside it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.fx import Interpreter, Node

from edgepress.ir.program import Program

Watch = Callable[[Node, Any], Any]


def execute(
    program: Program,
    inputs: Sequence[torch.Tensor],
    watch: Watch | None = None,
    state: Mapping[str, torch.Tensor] | None = None,
) -> Any:
    """The outputs for `inputs`, with every operator's result shown to `watch`, which may replace it.

    Args:
        state: weights to use in place of the program's own.

    Returns:
        One tensor, or a tuple where the network has several outputs. Gradients flow if they are switched on.
    """
    weights = state if state is not None else program.state()
    names = program.state_names()
    given = iter(inputs)
    placeholders = [n for n in program.graph.nodes if n.op == "placeholder"]
    values = [weights[names[n.name]] if n.name in names else next(given) for n in placeholders]
    outputs = _Watched(program.exported.graph_module, watch).run(*values)
    return outputs[0] if len(outputs) == 1 else outputs


class _Watched(Interpreter):
    def __init__(self, module: torch.fx.GraphModule, watch: Watch | None) -> None:
        super().__init__(module)
        self.watch = watch

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        return self.watch(n, result) if self.watch is not None and n.op == "call_function" else result
