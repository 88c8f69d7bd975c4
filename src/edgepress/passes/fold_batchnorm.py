"""Fold batch norms into the convolution or linear layer before them.

y = gamma * (conv(x) - mean) / sqrt(var + eps) + beta is again a convolution, with weight * k and
(bias - mean) * k + beta for k = gamma / sqrt(var + eps).
"""

import torch
from torch.fx import Node

from edgepress.ir.edit import Editor
from edgepress.ir.program import PassResult, Program, Refusal
from edgepress.ir.text import op_name

# operator -> axis of its weight's output channels
FOLDABLE = {
    **{f"aten.conv{d}d": 0 for d in (1, 2, 3)},
    **{f"aten.conv{d}d.padding": 0 for d in (1, 2, 3)},
    "aten.linear": 0,
}


def fold_batchnorm(program: Program) -> PassResult:
    """Every batch norm that directly follows a convolution or linear layer disappears into it."""
    editor, refusals, folded = Editor(program), list[Refusal](), 0
    for node in [n for n in editor.graph.nodes if op_name(n) == "aten.batch_norm"]:
        found = _obstacle(program, node)
        if found:
            refusals.append(Refusal(node.name, found, "a convolution or linear layer of its own right before it"))
        else:
            _fold(editor, program, node)
            folded += 1
    if not folded:
        return PassResult(program, False, tuple(refusals))
    return PassResult(editor.finish(note=f"folded {folded} batch norms"), True, tuple(refusals))


def _obstacle(program: Program, norm: Node) -> str:
    layer = norm.args[0]
    if not isinstance(layer, Node) or op_name(layer) not in FOLDABLE:
        return f"it follows {layer}"
    if len(layer.users) > 1:
        return f"{layer.name} has other readers"
    if norm.args[5]:
        return "it uses the statistics of the batch"
    weight = layer.args[1]
    if not isinstance(weight, Node) or program.tensor_of(weight) is None or len(weight.users) > 1:
        return f"the weight of {layer.name} is shared or computed"
    if norm.args[3] is None or norm.args[4] is None:
        return "it keeps no statistics"
    return ""


def _fold(editor: Editor, program: Program, norm: Node) -> None:
    layer = norm.args[0]
    assert isinstance(layer, Node)
    names, eps = program.state_names(), float(norm.args[7])  # type: ignore[arg-type]
    mean, var = (_tensor(program, norm.args[i]) for i in (3, 4))
    assert mean is not None and var is not None
    gamma, beta = (_tensor(program, norm.args[i]) for i in (1, 2))
    gain = torch.rsqrt(var + eps) if gamma is None else gamma * torch.rsqrt(var + eps)
    bias_node = layer.args[2] if len(layer.args) > 2 else None
    bias = _tensor(program, bias_node)
    shift = ((0.0 if bias is None else bias) - mean) * gain + (0.0 if beta is None else beta)
    weight_node = layer.args[1]
    assert isinstance(weight_node, Node)
    weight = names[weight_node.name]
    axis = FOLDABLE[op_name(layer)]
    tensor = editor.state[weight]
    editor.set_tensor(weight, tensor.double().movedim(axis, -1).mul(gain.double()).movedim(-1, axis).to(tensor.dtype))
    _set_bias(editor, layer, weight, bias_node, names, shift.detach())
    editor.replace_uses(norm, layer)


def _set_bias(
    editor: Editor, layer: Node, weight: str, bias: object, names: dict[str, str], value: torch.Tensor
) -> None:
    if isinstance(bias, Node) and len(bias.users) == 1:
        editor.set_tensor(names[bias.name], value)
        return
    fresh = editor.add_tensor(_free_name(editor, weight), value, parameter=True)
    editor.set_target(layer, layer.target, (*layer.args[:2], fresh, *layer.args[3:]))  # type: ignore[arg-type]


def _free_name(editor: Editor, weight: str) -> str:
    name = weight.rpartition(".")[0] + ".bias" if "." in weight else f"{weight}_bias"
    while name in editor.state:
        name += "_folded"
    return name


def _tensor(program: Program, node: object) -> torch.Tensor | None:
    return program.tensor_of(node)
