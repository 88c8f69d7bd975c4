"""Sums that saturate on x86 without VNNI: `vpmaddubsw` adds two uint8 x int8 products in 16 bits.

With activations up to 255 the sum of two products leaves [-32768, 32767] when the two weights add up to more than 128.
"""

from dataclasses import dataclass

import torch

from edgepress.ir.program import Program
from edgepress.passes.learn_scales import plan_of
from edgepress.quantize.qparams import channel_view, weight_integers

LARGEST = 32767


@dataclass(frozen=True)
class Saturation:
    """One weight.

    Attributes:
        tensor: its name. pairs: share of neighbouring weights whose products may saturate, for some activations.
        worst: largest sum of two products in magnitude, for activations at the end of their grid.
    """

    tensor: str
    pairs: float
    worst: int


def saturation(program: Program) -> tuple[Saturation, ...]:
    """The weights of a quantized program that can saturate; empty when none can.

    Kernels pair neighbours along the reduction in memory order; channels-last kernels pair channels, others kernel
    positions. Both orders are looked at, and the worse is reported.
    """
    plan, state = plan_of(program), program.state()
    activations = {p.node: p.grid.high for p in plan.activations if p.grid.dtype == "uint8"}
    found = []
    for point in plan.weights:
        if point.input not in activations:
            continue
        values = weight_integers(state[point.tensor].detach(), point)
        report = _pairs(point.tensor, values, point.axis, activations[point.input])
        if report.pairs:
            found.append(report)
    return tuple(found)


def _pairs(tensor: str, values: torch.Tensor, axis: int | None, largest: int) -> Saturation:
    first = channel_view(values, axis if axis is not None else 0)
    orders = [first]
    if values.dim() > 2 and axis in (0, None):
        orders.append(values.movedim(1, -1).reshape(values.shape[0], -1))
    sums = [largest * (order[:, :-1:2] + order[:, 1::2]).abs() for order in orders if order.shape[1] > 1]
    if not sums:
        return Saturation(tensor, 0.0, 0)
    share = max(float((s > LARGEST).float().mean()) for s in sums)
    return Saturation(tensor, share, int(max(float(s.max()) for s in sums)))
