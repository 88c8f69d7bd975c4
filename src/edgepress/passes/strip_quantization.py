"""Take quantization out of a program again: what is left is the float program its plan was placed for."""

import torch
from torch.fx import Node

from edgepress.ir import float8_ops, quant_ops  # noqa: F401  (registers the operators below)
from edgepress.ir.edit import Editor
from edgepress.ir.program import PassResult, Program

qd = torch.ops.quantized_decomposed
# Each of them hands on its first argument, but for rounding.
HANDS_ON = (
    qd.quantize_per_tensor.default,
    qd.dequantize_per_tensor.default,
    qd.quantize_per_tensor.tensor,
    qd.dequantize_per_tensor.tensor,
    qd.quantize_per_channel.default,
    qd.dequantize_per_channel.default,
    qd.quantize_per_channel_group.default,
    qd.dequantize_per_channel_group.default,
    torch.ops.edgepress.quantize_float8.default,
    torch.ops.edgepress.dequantize_float8.default,
    torch.ops.edgepress.learned_quantize.default,
    torch.ops.edgepress.dynamic_quantize.default,
)


def _reads_stored_integers(node: Node) -> bool:
    """Integers that no quantizer made, such as rows of a stored table, have no float values to fall back on."""
    source = node.args[0]
    while isinstance(source, Node) and source.op == "call_function" and source.target not in HANDS_ON and source.args:
        source = source.args[0]
    return isinstance(source, Node) and source.op == "placeholder" and not source.meta["val"].is_floating_point()


def strip_quantization(program: Program) -> PassResult:
    """The program without quantize, dequantize and fake-quantize nodes, and without their scales."""
    editor, count = Editor(program), 0
    for node in [n for n in editor.graph.nodes if n.target in HANDS_ON and not _reads_stored_integers(n)]:
        editor.replace_uses(node, node.args[0])
        count += 1
    if not count:
        return PassResult(program, False)
    return PassResult(editor.finish(), True)
