"""Statistics of what layers read on calibration data."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from edgepress.analysis.coupling import arguments
from edgepress.analysis.execute import execute
from edgepress.ir.program import Program
from edgepress.prune.regression import rows_of

POSITIONS = 64  # positions per example of a convolution


def input_products(
    program: Program, batches: Iterable[tuple[Tensor, ...]], layers: Mapping[str, str]
) -> dict[str, Tensor]:
    """Mean of x xᵀ, (in, in), of what each named layer reads (patches of a convolution)."""
    sums: dict[str, Tensor] = {}
    rows: dict[str, int] = {}
    for inputs in batches:
        values: dict[Node, Tensor] = dict(zip(program.user_inputs(), inputs, strict=True))

        def watch(node: Node, value: Any, values: dict[Node, Tensor] = values) -> Any:
            if isinstance(value, Tensor) and any(user.name in layers for user in node.users):
                values[node] = value
            if node.name in layers:
                x, _ = rows_of(node, values[arguments(node)["input"]], value, POSITIONS, rows.get(node.name, 0))
                sums[node.name] = sums.get(node.name, torch.zeros(())) + x.T @ x
                rows[node.name] = rows.get(node.name, 0) + len(x)
            return value

        with torch.no_grad():
            execute(program, inputs, watch)
    return {name: total / rows[name] for name, total in sums.items()}
