"""Dynamic quantization: integers for weights now, ranges of activations by the runtime with every input.

No calibration, and no integers handed from layer to layer: each layer takes and gives floats. That suits layers whose
weights outweigh their activations: LSTMs, and matrix products at batch 1. The weights are rounded here, per row; the
nodes are listed under `plans["dynamic"]`, and the exporter writes the operators. What rounding the activations costs
shows only in the artifact.
"""

from collections.abc import Iterable, Iterator

import torch
from torch.fx import Node

from edgepress.ir.edit import Editor
from edgepress.ir.program import PassResult, Program
from edgepress.ir.text import op_name

PLAN = "dynamic"
TOP = 127


def mark_dynamic(program: Program, nodes: Iterable[str]) -> PassResult:
    """The program with the layers called `nodes` (linear or LSTM) marked, their weights on the 8-bit grid."""
    chosen, editor, names = sorted(nodes), Editor(program), program.state_names()
    if not chosen:
        return PassResult(program, False)
    for node in (editor.node(name) for name in chosen):
        for weight in weights_of(node):
            if weight.name in names:
                editor.state[names[weight.name]] = rounded(editor.state[names[weight.name]])
    note = f"marked {len(chosen)} layers for dynamic quantization"
    return PassResult(editor.finish(note=note, plans={PLAN: {"nodes": chosen}}), True)


def weights_of(node: Node) -> Iterator[Node]:
    """The matrices of a layer."""
    if op_name(node) == "aten.lstm.input":
        per_cell = 4 if node.args[3] else 2
        for i, value in enumerate(node.args[2]):  # type: ignore[arg-type]
            if i % per_cell < 2:
                yield value
    else:
        yield node.args[1]  # type: ignore[misc]


def row_scales(weight: torch.Tensor) -> torch.Tensor:
    """One scale per row: its largest magnitude over 127; rows of zeros take 1."""
    reach = weight.detach().reshape(len(weight), -1).abs().amax(1)
    return torch.where(reach > 0, reach / TOP, torch.ones_like(reach))


def rounded(weight: torch.Tensor) -> torch.Tensor:
    """The weight on its grid, as float."""
    scales = row_scales(weight).reshape(-1, *[1] * (weight.dim() - 1))
    grid = (weight.detach() / scales).round() * scales
    return torch.nn.Parameter(grid) if isinstance(weight, torch.nn.Parameter) else grid
