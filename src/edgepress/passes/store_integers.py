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
    editor, names = Editor(program), program.state_names()
    quantized = [n for n in editor.graph.nodes if n.target in QUANTIZE and n.args[0].name in names]
    for node in quantized:
        source = names[node.args[0].name]
        values = _evaluate(node, program)
        stored = editor.add_tensor(_free_name(editor, source), values)
        editor.replace_uses(node, stored)
    if not quantized:
        return PassResult(program, False)
    return PassResult(editor.finish(note=f"stored {len(quantized)} weights as integers"), True)


def _evaluate(node: Node, program: Program) -> torch.Tensor:
    state, names = program.state(), program.state_names()
    arguments = [state[names[a.name]].detach() if isinstance(a, Node) else a for a in node.args]
    with torch.no_grad():
        return node.target(*arguments)  # type: ignore[operator]


def _free_name(editor: Editor, source: str) -> str:
    name, count = f"{source}_int", 1
    while name in editor.state:
        count += 1
        name = f"{source}_int{count}"
    return name
