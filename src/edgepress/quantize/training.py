"""Quantization-aware training: what of a quantized program is trained, how fast, and the way back.

The batch norms were folded before the program was quantized, so what is trained is what ships: after `settle`, the same
integers come out of the exported model.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from edgepress.ir.program import Program
from edgepress.ir.quant_plan import Grid, QuantPlan
from edgepress.ir.text import op_name
from edgepress.passes.learn_scales import fix_scales, learn_scales, offset_name, plan_of, scale_name
from edgepress.targets.capability import Capability

# How many times larger or smaller than at the start a scale may become. Activations that lose more of their range than
# a third take the network with them, and the loss explodes.
WEIGHTS, ACTIVATIONS = 2.0, 1.5
SHIFT = 0.25  # how far a zero point may move, as a share of its grid


@dataclass(frozen=True)
class Trainable:
    """A quantized program in the form that is trained (`passes.learn_scales`).

    Attributes:
        paces: learning-rate factor of each learned scale and zero point; 0 where the target prescribes it.
        limits: smallest and largest values of these parameters. Calibration has put them near where they belong: a
            scale that a large step carries to zero or beyond takes its layer with it, and finds no way back.
    """

    program: Program
    paces: Mapping[str, float]
    limits: Mapping[str, tuple[torch.Tensor, torch.Tensor]]

    def keep(self, parameters: Mapping[str, torch.Tensor]) -> None:
        """Bring scales and zero points back inside their limits, in place: a `constraint` of `train.fit`."""
        with torch.no_grad():
            for name, (low, high) in self.limits.items():
                own = parameters[name]
                own.copy_(torch.minimum(torch.maximum(own, low.to(own.device)), high.to(own.device)))


def is_quantized(program: Program) -> bool:
    """Whether the program carries a quantization plan."""
    return "quantize" in program.plans


def trainable(program: Program, capability: Capability, *, relative: bool) -> Trainable:
    """The form to train.

    Args:
        relative: each step changes a scale by a share of its size. Optimizers whose steps have the size of the learning
            rate (Adam, Lion) need that: a scale of 0.01 would not survive steps of 0.001. With SGD, whose steps have
            the size of the gradient, scales of activations go slower still: every layer behind them feels it, and at
            LSQ's own pace (1, Esser et al. 2020, section 2.2) folded networks lose them at rates that weights bear.
            Zero points count steps: they move as a share of the grid, or as a gradient step on the offset
            -zero x scale of LSQ+ would move them.

    Raises:
        UserError: the program is not quantized.
    """
    plan = plan_of(program)
    learnable, still = learn_scales(program).program, _prescribed(program, plan, capability)
    still |= {owner for owner in _owners(plan) if _stepped(plan, owner, capability)}
    state, paces, limits = learnable.state(), dict[str, float](), dict[str, tuple[torch.Tensor, torch.Tensor]]()
    for owner in _owners(plan):
        name, moves = scale_name(owner), owner not in still
        size, weight = float(state[name].detach().abs().mean()), plan.weight(owner) is not None
        paces[name] = moves * (size if relative or weight else size**2)
        limits[name] = _around(state[name].detach(), WEIGHTS if weight else ACTIVATIONS)
        offset = offset_name(owner)
        if offset in state:
            grid = plan.groups()[owner][0].grid
            paces[offset] = moves * (grid.steps if relative else size**-2)
            limits[offset] = _near(state[offset].detach(), grid)
    return Trainable(learnable, paces, limits)


def _owners(plan: QuantPlan) -> list[str]:
    """What has scales: groups of activations, and weights."""
    return [*plan.groups(), *(weight.tensor for weight in plan.weights)]


def _around(scales: torch.Tensor, times: float) -> tuple[torch.Tensor, torch.Tensor]:
    return scales / times, scales * times


def _near(zero: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
    reach = SHIFT * grid.steps
    return (zero - reach).clamp(min=grid.low), (zero + reach).clamp(max=grid.high)


def finished(trained: Program) -> Program:
    """The trained program with its scales fixed, in the form that is exported.

    Raises:
        UserError: it does not come from `trainable`.
    """
    return fix_scales(trained).program


def _prescribed(program: Program, plan: QuantPlan, capability: Capability) -> set[str]:
    """Groups whose scale the runtime's kernel fixes (sigmoid, softmax)."""
    rules = {node.name: capability.rule(op_name(node)) for node in program.nodes}
    fixed = {name for name, rule in rules.items() if rule is not None and rule.fixed_output is not None}
    return {point.group for point in plan.activations if point.node in fixed}


def _stepped(plan: QuantPlan, owner: str, capability: Capability) -> bool:
    """Whether the scale must stay a power of two, between which nothing can be learned."""
    form = capability.weight if plan.weight(owner) else capability.activation
    return form.power_of_two
