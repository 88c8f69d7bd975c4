"""Which rule for the ranges of activations suits a network: measured at its outputs, on calibration samples.

Cutting rare large values makes all others finer, and pays where they are mere outliers; where a rare large value is the
answer itself (a detector's score), it takes the answer away. Only the outputs know which of the two it is.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

import torch

from edgepress.ir.program import Program
from edgepress.ir.quant_plan import ActivationPoint, QuantPlan
from edgepress.quantize.qparams import nearest, rounded_weight
from edgepress.quantize.watch import Look, Watched

JUDGES = 16  # samples whose outputs decide
WORTH_DB = 1.5  # a rule must gain so much on average at every output: less, sixteen samples cannot tell from chance
WORSE_DB = 1.0  # and the worst sample must not fall further than this
LOUDEST_DB, FAINTEST_DB = 60.0, -20.0  # outputs without noise or without signal


@dataclass(frozen=True)
class Choice:
    """The rule, and in words what speaks for it."""

    rule: str
    why: str


def choose_rule(program: Program, plans: Mapping[str, QuantPlan], batches: Sequence[Sequence[torch.Tensor]]) -> Choice:
    """The rule that leaves the least noise at the outputs.

    Args:
        plans: calibrated plans by rule; the first is the one that needs no reason.
        batches: a few samples, looked at once per plan and once in float.
    """
    usual, *others = plans
    goals = [_outputs(program, batch) for batch in batches]
    noise = {rule: _ratios(goals, program, plan, batches) for rule, plan in plans.items()}
    gains = {rule: _gain(noise[usual], noise[rule]) for rule in others}
    best = max(gains, key=lambda rule: gains[rule])
    samples = sum(len(batch[0]) for batch in batches)
    count = f"over {samples} sample{'s' * (samples != 1)}"
    if gains[best] < WORTH_DB:
        return Choice(usual, f"{best} changes the outputs' noise by {-gains[best]:+.1f} dB {count}")
    fall = _fall(noise[usual], noise[best])
    if fall > WORSE_DB:
        return Choice(usual, f"{best} gains {gains[best]:.1f} dB {count}, but the worst of them loses {fall:.1f} dB")
    return Choice(best, f"{gains[best]:.1f} dB less noise at the outputs than with {usual} {count}")


def _gain(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]]) -> float:
    """The mean gain over samples, at the output that gains least."""
    return min(fmean(own) - fmean(old) for old, own in zip(before, after, strict=True))


def _fall(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]]) -> float:
    """How much lower the worst sample lies, at the output where it falls most."""
    return max(min(old) - min(own) for old, own in zip(before, after, strict=True))


def _ratios(
    goals: Sequence[Sequence[torch.Tensor]],
    program: Program,
    plan: QuantPlan,
    batches: Sequence[Sequence[torch.Tensor]],
) -> list[list[float]]:
    """Per output, the signal above the noise in dB of every sample."""
    state = program.state()
    rounded = program.with_state({w.tensor: rounded_weight(state[w.tensor].detach(), w) for w in plan.weights})
    simulated = Watched(rounded, {p.node: partial(_on_grid, p) for p in plan.activations})
    found: list[list[float]] = [[] for _ in goals[0]]
    for goal, batch in zip(goals, batches, strict=True):
        for own, signal, noisy in zip(found, goal, _tensors(simulated.outputs(batch)), strict=True):
            own += _per_sample(signal, noisy, len(batch[0]))
    return found


def _on_grid(point: ActivationPoint, value: torch.Tensor) -> torch.Tensor:
    """What the target computes with in place of a value."""
    assert point.scale is not None
    grid, zero = point.grid, point.zero_point
    if grid.dtype == "float8e4m3fn":
        return nearest(value / point.scale, grid) * point.scale
    # A tenth of the time of torch.fake_quantize_per_tensor_affine.
    return (value / point.scale).round_().clamp_(grid.low - zero, grid.high - zero).mul_(point.scale)


def _per_sample(signal: torch.Tensor, noisy: torch.Tensor, samples: int) -> list[float]:
    rows = samples if signal.dim() and len(signal) == samples else 1
    power = signal.double().reshape(rows, -1).square().sum(1)
    noise = (signal.double() - noisy.double()).reshape(rows, -1).square().sum(1)
    floor, ceiling = 10 ** (FAINTEST_DB / 10), 10 ** (LOUDEST_DB / 10)
    ratios = torch.where(noise > 0, power / noise, ceiling).nan_to_num(floor).clamp(floor, ceiling)
    return [10 * math.log10(ratio) for ratio in ratios.tolist()]


def _outputs(program: Program, batch: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    looks: dict[str, Look] = {}
    return _tensors(Watched(program, looks).outputs(batch))


def _tensors(outputs: Any) -> list[torch.Tensor]:
    """Floating-point outputs."""
    each = outputs if isinstance(outputs, list | tuple) else [outputs]
    return [t for t in each if isinstance(t, torch.Tensor) and t.is_floating_point() and t.numel()]
