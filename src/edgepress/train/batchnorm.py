"""Make batch norm in training agree with batch norm in evaluation, before the first step.

Steps that change weights after training (re-fitting after a cut, above all) leave running statistics that are no longer
those of the layer's input. Evaluation does not mind: it was fitted with them. Training normalises by the statistics of
the batch instead, and starts from a wrecked network. So the true mean m and variance v are measured, and

    mean' = m                 weight' = weight sqrt((v + eps) / (var + eps))
    var'  = v                 bias'   = bias + weight (m - mean) / sqrt(var + eps)

which computes the same function in evaluation, and (almost) the same in training.
"""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from edgepress.ir.program import Program
from edgepress.train.samples import Samples
from edgepress.train.tapping import tapped

SAMPLES, BATCH = 1024, 64


@dataclass(frozen=True)
class Norm:
    """A batch-norm node: what it reads, the names of its tensors, and its epsilon."""

    source: str
    weight: str
    bias: str
    mean: str
    var: str
    eps: float

    @property
    def names(self) -> tuple[str, str, str, str]:
        return self.weight, self.bias, self.mean, self.var


def settled(program: Program, data: Samples) -> Program:
    """The same function in evaluation, with running statistics that are those of the first samples of `data`.

    Batch norms that were never trained (mean 0, variance 1), that have no weights of their own or share them, stay.
    """
    module, state = program.detached_module(), program.state()
    norms = [norm for norm in _norms(module) if _was_trained(norm, state)]
    if not norms:
        return program
    changed: dict[str, Tensor] = {}
    for norm, (mean, var) in zip(norms, _statistics(module, norms, data), strict=True):
        changed.update(_adjusted(norm, state, mean, var))
    return program.with_state(changed)


def _norms(module: GraphModule) -> list[Norm]:
    """Those whose four tensors are plain attributes that no other node reads."""
    nodes = [n for n in module.graph.nodes if n.target is torch.ops.aten.batch_norm.default]
    found = [_norm(node) for node in nodes if _plain(node)]
    uses = Counter(name for norm in found for name in norm.names)
    return [norm for norm in found if all(uses[name] == 1 for name in norm.names)]


def _norm(node: Node) -> Norm:
    source, weight, bias, mean, var, _, _, eps, *_ = node.args
    names = [str(attribute.target) for attribute in (weight, bias, mean, var) if isinstance(attribute, Node)]
    assert isinstance(source, Node) and isinstance(eps, float)
    return Norm(source.name, names[0], names[1], names[2], names[3], eps)


def _plain(node: Node) -> bool:
    return all(isinstance(a, Node) and a.op == "get_attr" and len(a.users) == 1 for a in node.args[1:5])


def _was_trained(norm: Norm, state: dict[str, Tensor]) -> bool:
    if any(name not in state for name in norm.names):
        return False
    return bool((state[norm.mean] != 0).any() or (state[norm.var] != 1).any())


@torch.no_grad()
def _statistics(module: GraphModule, norms: list[Norm], data: Samples) -> list[tuple[Tensor, Tensor]]:
    """Mean and variance per channel of each norm's input, in float64."""
    looking = tapped(module, [norm.source for norm in norms])
    sums: list[Tensor | float] = [0.0] * len(norms)
    squares: list[Tensor | float] = [0.0] * len(norms)
    counts = [0] * len(norms)
    for rows in torch.arange(min(len(data), SAMPLES)).split(BATCH):
        _, values = looking(*(t[rows] for t in data.inputs))
        for i, norm in enumerate(norms):
            flat = values[norm.source].movedim(1, -1).flatten(0, -2).double()
            sums[i], squares[i], counts[i] = (
                sums[i] + flat.sum(0),
                squares[i] + flat.square().sum(0),
                counts[i] + len(flat),
            )
    means = [torch.as_tensor(total) / n for total, n in zip(sums, counts, strict=True)]
    return [
        (mean, (torch.as_tensor(square) / n - mean.square()).clamp_min(0))
        for mean, square, n in zip(means, squares, counts, strict=True)
    ]


def _adjusted(norm: Norm, state: dict[str, Tensor], mean: Tensor, var: Tensor) -> dict[str, Tensor]:
    """The equations of the module's docstring; new tensors by name."""
    weight, bias, old_mean, old_var = (state[name].detach().double() for name in norm.names)
    spread = (old_var + norm.eps).sqrt()
    fresh = {
        norm.weight: weight * (var + norm.eps).sqrt() / spread,
        norm.bias: bias + weight * (mean - old_mean) / spread,
        norm.mean: mean,
        norm.var: var,
    }
    return {name: tensor.to(state[name].dtype) for name, tensor in fresh.items()}
