"""Fold batch norm into the convolution or linear layer before it (Jacob et al. 2018, eq. 14, in evaluation mode).

y = γ (W x + b - μ) / √(σ² + ε) + β  =  (s W) x + (b - μ) s + β   with s = γ / √(σ² + ε), one value per channel.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import Node

from edgepress.analysis.coupling import arguments
from edgepress.analysis.operators import CONVOLUTIONS, TRANSPOSED
from edgepress.ir.edit import Editor
from edgepress.ir.program import PassResult, Program, Refusal

aten = torch.ops.aten
LAYERS = (*CONVOLUTIONS, *TRANSPOSED, aten.linear.default)


@dataclass(frozen=True)
class Foldable:
    """A layer and the batch norm that reads it and nothing else does."""

    layer: Node
    norm: Node


def fold_batchnorm(program: Program) -> PassResult:
    """Fold every batch norm that can be; each one that cannot is refused with the reason.

    A layer's weight keeps its name; a layer without bias takes the batch norm's shift as its own.
    """
    refusals: list[Refusal] = []
    norms = [node.name for node in program.nodes if node.target == aten.batch_norm.default]
    if not norms:
        return PassResult(program, changed=False)
    editor = Editor(program)
    folded = 0
    for node in map(editor.node, norms):
        match = _match(program, node)
        if isinstance(match, Refusal):
            refusals.append(match)
        else:
            _rewrite(editor, program.state_names(), match)
            folded += 1
    if not folded:
        return PassResult(program, changed=False, refusals=tuple(refusals))
    finished = editor.finish(note=f"fold_batchnorm: {folded} folded")
    return PassResult(finished, changed=True, refusals=tuple(refusals))


def _match(program: Program, norm: Node) -> Foldable | Refusal:
    """The pair to fold, or why not."""
    layer, names = norm.args[0], program.state_names()
    if not isinstance(layer, Node) or layer.target not in LAYERS:
        return Refusal(
            norm.name, f"it reads {getattr(layer, 'target', layer)}", "a convolution or linear layer before it"
        )
    if norm.args[5] is True:
        return Refusal(norm.name, "it is in training mode", "evaluation mode")
    if len(layer.users) > 1:
        return Refusal(norm.name, f"{layer.name} has {len(layer.users)} readers", "one reader, the batch norm")
    if layer.target == aten.linear.default and layer.meta["val"].dim() != 2:
        return Refusal(
            norm.name, "the batch norm runs over positions of the linear layer, not its channels", "2-D input"
        )
    return _check_weights(norm, layer, names) or Foldable(layer, norm)


def _check_weights(norm: Node, layer: Node, names: dict[str, str]) -> Refusal | None:
    weights = [layer.args[1], arguments(layer)["bias"]]
    for weight in (*weights, *norm.args[1:5]):
        if isinstance(weight, Node) and weight.name not in names:
            return Refusal(norm.name, f"{weight.name} is computed, not stored", "a stored tensor")
    for weight in weights:
        if isinstance(weight, Node) and len(weight.users) > 1:
            return Refusal(
                norm.name, f"{names[weight.name]} is shared by {len(weight.users)} layers", "a weight of its own"
            )
    if norm.args[3] is None or norm.args[4] is None:
        return Refusal(norm.name, "it keeps no running statistics", "running mean and variance")
    return None


def _rewrite(editor: Editor, names: dict[str, str], pair: Foldable) -> None:
    layer, norm = pair.layer, pair.norm

    def tensor(node: object) -> Tensor | None:
        return editor.state[names[node.name]].detach() if isinstance(node, Node) else None

    gamma, beta, mean, variance = (tensor(a) for a in norm.args[1:5])
    assert mean is not None and variance is not None
    scale = (variance.double() + norm.args[7]).rsqrt()  # type: ignore[operator, union-attr]
    if gamma is not None:
        scale = scale * gamma
    weight_name = names[layer.args[1].name]  # type: ignore[union-attr, index]
    bias_node = arguments(layer)["bias"]
    bias = tensor(bias_node)
    shift = ((0 if bias is None else bias.double()) - mean.double()) * scale + (0 if beta is None else beta.double())
    weight = editor.state[weight_name].detach()
    editor.set_tensor(weight_name, (weight.double() * _shaped(scale, weight, layer)).to(weight.dtype))
    if bias_node is not None:
        editor.set_tensor(names[bias_node.name], shift.to(weight.dtype))
    else:
        name = _free_name(editor, weight_name.removesuffix("weight") + "bias")
        fresh = editor.add_tensor(name, shift.to(weight.dtype), parameter=True)
        editor.set_target(layer, layer.target, (*layer.args[:2], fresh, *layer.args[3:]))  # type: ignore[arg-type]
    editor.replace_uses(norm, layer)


def _shaped(scale: Tensor, weight: Tensor, layer: Node) -> Tensor:
    """`scale` per output channel, shaped to multiply the weight."""
    if layer.target not in TRANSPOSED:
        return scale.reshape(-1, *[1] * (weight.dim() - 1))
    groups = arguments(layer)["groups"]  # weight (in, out / groups, *kernel): rows of one group share its scales
    per_group = scale.reshape(groups, 1, -1).expand(-1, weight.shape[0] // groups, -1)
    return per_group.reshape(weight.shape[0], -1, *[1] * (weight.dim() - 2))


def _free_name(editor: Editor, name: str) -> str:
    while name in editor.state:
        name += "_folded"
    return name
