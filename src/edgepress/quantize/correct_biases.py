"""Empirical bias correction (Nagel et al. 2019, section 4.2): rounding weights shifts the mean of a layer's output.

E[W~ x~] - E[W x] per channel, measured layer by layer on data, is taken out of the bias (eq. 13); each layer sees what
the corrected layers before it hand on.
"""

from collections.abc import Iterable

import torch
from torch.fx import Node

from edgepress.ir.program import Program
from edgepress.ir.quant_plan import QuantPlan
from edgepress.passes.insert_qdq import insert_qdq
from edgepress.quantize import operands
from edgepress.quantize.calibrate import Batch, scale_weights
from edgepress.quantize.round_layers import gather
from edgepress.quantize.walk import Walk


def correct_biases(
    reference: Program, program: Program, plan: QuantPlan, batches: Iterable[Batch], *, samples: int = 256
) -> tuple[Program, QuantPlan]:
    """The float program with corrected biases, and the plan with their scales.

    Args:
        reference: the float network. program: the same graph with the weights that will be quantized (they may be
            rounded already). plan: calibrated.
    """
    inputs = gather(batches, samples)
    names = program.state_names()
    walks = Walk(reference, inputs), Walk(insert_qdq(program, plan).program, inputs)
    fresh: dict[str, torch.Tensor] = {}
    for node in program.nodes:
        if (bias := _own_bias(program, plan, node)) is not None:
            fresh[names[bias.name]] = _corrected(program, node, bias, *walks)
    corrected = program.with_state(fresh, note=f"corrected {len(fresh)} biases")
    scales = {p.tensor: torch.tensor(p.scales) for p in plan.weights}
    return corrected, scale_weights(corrected, plan, scales)


def _own_bias(program: Program, plan: QuantPlan, node: Node) -> Node | None:
    """The bias of a layer whose weight is quantized, if it has one that no other layer reads."""
    place = operands.weighted(program, node)
    if place is None or plan.weight(program.state_names()[operands.argument(node, place.weight).name]) is None:
        return None
    bias = operands.argument(node, place.bias)
    stored = isinstance(bias, Node) and len(bias.users) == 1 and program.tensor_of(bias) is not None
    return bias if stored else None


def _corrected(program: Program, node: Node, bias: Node, reference: Walk, quantized: Walk) -> torch.Tensor:
    here, there = reference.until(node.name), quantized.until(node.name)
    assert here is not None and there is not None
    arguments, place = quantized.arguments(there), operands.weighted(program, node)
    assert place is not None and place.bias is not None
    reference.compute(here)
    quantized.compute(there)
    shift = _means(node, reference.values[here]) - _means(node, quantized.values[there])
    old = program.tensor_of(bias)
    assert old is not None
    fresh = old.detach() + shift.to(old.dtype)
    again = list(arguments)
    again[place.bias] = fresh
    quantized.recompute(there, tuple(again))
    return fresh


def _means(node: Node, value: torch.Tensor) -> torch.Tensor:
    """The mean per output channel."""
    axis = 1 if "conv" in str(node.target) else value.dim() - 1
    return value.double().mean([a for a in range(value.dim()) if a != axis])
