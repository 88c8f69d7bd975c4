"""Structured pruning from budget to smaller program."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from edgepress.analysis.channel_plan import ChannelPlan
from edgepress.analysis.channels import ChannelGroups, channel_groups
from edgepress.analysis.costs import parameter_bytes, total_macs
from edgepress.analysis.planned_costs import Mask
from edgepress.errors import UserError
from edgepress.ir.program import Program, Refusal
from edgepress.passes.cut_channels import atoms_kept, cut_channels
from edgepress.prune.batchnorm import reestimate
from edgepress.prune.device import Gauge
from edgepress.prune.evidence import Batch, Loss
from edgepress.prune.options import PruneOptions
from edgepress.prune.plan import costs_of, make_plan
from edgepress.prune.reconstruct import inputs_of, reconstruct
from edgepress.prune.timing import Stopwatch


@dataclass(frozen=True)
class PruneResult:
    """What pruning gives back.

    Attributes:
        program: the smaller network. plan: what was kept, in units of the network given.
        changed: whether anything was removed. refusals: layers that could not be cut, and why.
        facts: channels, params, macs, bytes and activations (peak bytes per example), each `_before` and `_after`.
    """

    program: Program
    plan: ChannelPlan
    changed: bool
    refusals: tuple[Refusal, ...]
    facts: Mapping[str, int]


def prune(
    program: Program,
    options: PruneOptions,
    batches: Iterable[Batch],
    loss: Loss,
    stopwatch: Stopwatch | None = None,
    gauge: Gauge | None = None,
) -> PruneResult:
    """Score, choose, cut and, if asked, refit.

    Args:
        batches: (inputs, targets) of calibration data; read several times.
        loss: (outputs, targets) -> mean loss of the batch.
        stopwatch: measures a program's latency relative to `program`; read by a budget on latency.
        gauge: tells what a microcontroller needs for a network, relative to the limits there are; `options.reduce` may
            then be empty.

    Raises:
        UserError: the budget is out of reach, is on latency without a stopwatch, or on a microcontroller's figures
            together with latency or with several iterations.
    """
    if gauge is not None and ("latency" in options.reduce or options.iterations > 1):
        raise UserError("prune.budget with a budget on latency or several iterations", found="both",
                        expected="the budget alone, or shares of computed costs beside it, in one iteration",
                        fix="set iterations to 1 and leave reduce.latency out")  # fmt: skip
    batches = list(batches)
    groups = channel_groups(program, options.attention)
    keep = np.ones(groups.units, bool)
    smaller = program
    for limits in _schedule(program, groups, options):
        step_groups = channel_groups(smaller, options.attention) if smaller is not program else groups
        plan = make_plan(smaller, options, batches, loss, step_groups, limits, stopwatch, gauge)
        keep = _carry(groups, keep, step_groups, plan)
        smaller = _cut(program, ChannelPlan.from_mask(groups, keep), groups, options, batches)
    plan = ChannelPlan.from_mask(groups, keep)
    return PruneResult(smaller, plan, bool(plan.removed), groups.refusals, _facts(program, smaller, groups, keep))


def _schedule(program: Program, groups: ChannelGroups, options: PruneOptions) -> list[dict[str, float]]:
    """Cost limits after each iteration: equal ratios from step to step."""
    everything = np.ones(groups.units, bool)
    shares = {kind: share for kind, share in options.reduce.items() if kind != "latency"}
    before = {kind: costs_of(program, groups, kind).total(everything) for kind in shares}
    steps = range(1, options.iterations + 1)
    return [{k: before[k] * (1 - f) ** (i / options.iterations) for k, f in shares.items()} for i in steps]


def _carry(groups: ChannelGroups, keep: np.ndarray, smaller: ChannelGroups, plan: ChannelPlan) -> np.ndarray:
    """The plan for an already cut program, in units of the original one."""
    left = plan.mask(smaller)
    alive = np.flatnonzero(keep)
    if len(alive) != len(left):
        raise AssertionError("the groups of a cut program are those of the original, less the units cut")
    result = keep.copy()
    result[alive[~left]] = False
    return result


def _cut(
    program: Program, plan: ChannelPlan, groups: ChannelGroups, options: PruneOptions, batches: list[Batch]
) -> Program:
    smaller = cut_channels(program, plan, groups).program
    if not plan.removed:
        return smaller
    if options.reconstruct:
        smaller = reconstruct(program, smaller, groups, atoms_kept(groups, plan.mask(groups)), inputs_of(batches))
    return reestimate(smaller, inputs_of(batches)) if options.reestimate else smaller


def _facts(program: Program, smaller: Program, groups: ChannelGroups, keep: Mask) -> dict[str, int]:
    facts = {"channels_before": len(keep), "channels_after": int(keep.sum())}
    peak = costs_of(program, groups, "activations")
    for when, which, left in (("before", program, np.ones_like(keep)), ("after", smaller, keep)):
        facts[f"params_{when}"] = which.parameter_count()
        facts[f"macs_{when}"] = total_macs(which)
        facts[f"bytes_{when}"] = parameter_bytes(which)
        facts[f"activations_{when}"] = round(peak.total(left))
    return facts
