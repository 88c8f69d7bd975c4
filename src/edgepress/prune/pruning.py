"""Structured pruning from budget to smaller program."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from edgepress.analysis.channel_plan import ChannelPlan
from edgepress.analysis.channels import ChannelGroups, channel_groups
from edgepress.analysis.costs import parameter_bytes, total_macs
from edgepress.analysis.planned_costs import cost_model
from edgepress.ir.program import Program, Refusal
from edgepress.passes.cut_channels import atoms_kept, cut_channels
from edgepress.prune.evidence import Batch, Loss
from edgepress.prune.options import PruneOptions
from edgepress.prune.plan import make_plan
from edgepress.prune.reconstruct import inputs_of, reconstruct


@dataclass(frozen=True)
class PruneResult:
    """What pruning gives back.

    Attributes:
        program: the smaller network. plan: what was kept, in units of the network given.
        changed: whether anything was removed. refusals: layers that could not be cut, and why.
        facts: channels, params, macs and bytes, each `_before` and `_after`.
    """

    program: Program
    plan: ChannelPlan
    changed: bool
    refusals: tuple[Refusal, ...]
    facts: Mapping[str, int]


def prune(program: Program, options: PruneOptions, batches: Iterable[Batch], loss: Loss) -> PruneResult:
    """Score, choose, cut and, if asked, refit.

    Args:
        batches: (inputs, targets) of calibration data; read several times.
        loss: (outputs, targets) -> mean loss of the batch.

    Raises:
        UserError: the budget is out of reach.
    """
    batches = list(batches)
    groups = channel_groups(program)
    keep = np.ones(groups.units, bool)
    smaller = program
    for limits in _schedule(program, groups, options):
        step_groups = channel_groups(smaller) if smaller is not program else groups
        plan = make_plan(smaller, options, batches, loss, step_groups, limits)
        keep = _carry(groups, keep, step_groups, plan)
        smaller = _cut(program, ChannelPlan.from_mask(groups, keep), groups, options, batches)
    plan = ChannelPlan.from_mask(groups, keep)
    return PruneResult(smaller, plan, bool(plan.removed), groups.refusals, _facts(program, smaller, keep))


def _schedule(program: Program, groups: ChannelGroups, options: PruneOptions) -> list[dict[str, float]]:
    """Cost limits after each iteration: equal ratios from step to step."""
    everything = np.ones(groups.units, bool)
    before = {k: cost_model(program, groups, k).total(everything) for k in options.reduce}  # type: ignore[arg-type]
    steps = range(1, options.iterations + 1)
    return [{k: before[k] * (1 - f) ** (i / options.iterations) for k, f in options.reduce.items()} for i in steps]


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
    if not options.reconstruct or not plan.removed:
        return smaller
    return reconstruct(program, smaller, groups, atoms_kept(groups, plan.mask(groups)), inputs_of(batches))


def _facts(program: Program, smaller: Program, keep: np.ndarray) -> dict[str, int]:
    facts = {"channels_before": len(keep), "channels_after": int(keep.sum())}
    for when, which in (("before", program), ("after", smaller)):
        facts[f"params_{when}"] = which.parameter_count()
        facts[f"macs_{when}"] = total_macs(which)
        facts[f"bytes_{when}"] = parameter_bytes(which)
    return facts
