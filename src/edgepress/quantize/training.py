"""Quantization-aware training: what of a quantized program is trained, how fast, and the way back.

The batch norms were folded before the program was quantized, so what is trained is what ships: after `settle`, the same
integers come out of the exported model.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from edgepress.ir.program import Program
from edgepress.ir.quant_plan import QuantPlan
from edgepress.ir.text import op_name
from edgepress.passes.learn_scales import fix_scales, learn_scales, plan_of, scale_name
from edgepress.targets.capability import Capability


@dataclass(frozen=True)
class Trainable:
    """A quantized program in the form that is trained (`passes.learn_scales`).

    Attributes:
        paces: learning-rate factor of each learned scale; 0 where the target prescribes the scale.
    """

    program: Program
    paces: Mapping[str, float]


def is_quantized(program: Program) -> bool:
    """Whether the program carries a quantization plan."""
    return "quantize" in program.plans


def trainable(program: Program, capability: Capability, *, relative: bool) -> Trainable:
    """The form to train.

    Args:
        relative: scales move in proportion to their size. Optimizers whose steps have the size of the learning rate
            (Adam, Lion) need that: a scale of 0.01 would not survive steps of 0.001. With SGD the gradient's own
            damping does it (LSQ, Esser et al. 2020, section 2.2).

    Raises:
        UserError: the program is not quantized.
    """
    plan = plan_of(program)
    learnable, prescribed = learn_scales(program).program, _prescribed(program, plan, capability)
    state, paces = learnable.state(), dict[str, float]()
    for owner in [*plan.groups(), *(weight.tensor for weight in plan.weights)]:
        name = scale_name(owner)
        size = float(state[name].detach().abs().mean()) if relative else 1.0
        paces[name] = 0.0 if owner in prescribed or _stepped(plan, owner, capability) else size
    return Trainable(learnable, paces)


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
