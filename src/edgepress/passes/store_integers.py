"""Store quantized weights as the integers they are: what is exported, and no longer trained.

quantize(parameter) becomes an int8 (or int32) buffer; the dequantize node behind it stays.
"""

import torch
from torch.fx import Node

from edgepress.ir import float8_ops, quant_ops  # noqa: F401  (registers the operators below)
from edgepress.ir.edit import Editor
from edgepress.ir.program import PassResult, Program

qd = torch.ops.quantized_decomposed
QUANTIZE = (
    qd.quantize_per_tensor.default,
    qd.quantize_per_channel.default,
    qd.quantize_per_channel_group.default,
    torch.ops.edgepress.quantize_float8.default,
)


def store_integers(program: Program) -> PassResult:
    """The program with every quantized parameter replaced by its integers; outputs stay bit for bit the same."""
    state, names = program.state(), program.state_names()
    quantized = [n.name for n in program.nodes if n.target in QUANTIZE and str(n.args[0]) in names]
    if not quantized:
        return PassResult(program, False)
    editor = Editor(program)
    for node in map(editor.node, quantized):
        source = names[str(node.args[0])]
        stored = editor.add_tensor(_free_name(editor, source), _evaluate(node, state, names))
        editor.replace_uses(node, stored)
    return PassResult(editor.finish(note=f"stored {len(quantized)} weights as integers"), True)


def _evaluate(node: Node, state: dict[str, torch.Tensor], names: dict[str, str]) -> torch.Tensor:
    arguments = [state[names[a.name]].detach() if isinstance(a, Node) else a for a in node.args]
    with torch.no_grad():
        return node.target(*arguments)  # type: ignore[operator]


def _free_name(editor: Editor, source: str) -> str:
    name, count = f"{source}_int", 1
    while name in editor.state:
        count += 1
        name = f"{source}_int{count}"
    return name
