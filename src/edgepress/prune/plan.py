"""Decide which channels go: score, allocate, and write the decision down as data."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial

import numpy as np

from edgepress.analysis.channel_plan import ChannelPlan
from edgepress.analysis.channels import ChannelGroup, ChannelGroups, channel_groups
from edgepress.analysis.planned_costs import Mask, cost_model
from edgepress.analysis.planned_peak import peak_model
from edgepress.analysis.pruning_terms import LOSS_CRITERIA
from edgepress.errors import UserError
from edgepress.ir.program import Program
from edgepress.prune.allocate import Budget, Costs, allocate_global, allocate_uniform
from edgepress.prune.device import DeviceSearch, Gauge
from edgepress.prune.evidence import Batch, Evidence, Loss, unit_scores
from edgepress.prune.options import PruneOptions
from edgepress.prune.sensitivity import sensitivity, weighted
from edgepress.prune.tally import Scores, normalized
from edgepress.prune.timing import Stopwatch, meet_latency


def make_plan(
    program: Program,
    options: PruneOptions,
    batches: Iterable[Batch],
    loss: Loss,
    groups: ChannelGroups | None = None,
    limits: Mapping[str, float] | None = None,
    stopwatch: Stopwatch | None = None,
    gauge: Gauge | None = None,
) -> ChannelPlan:
    """Choose the units to keep.

    Args:
        batches: (inputs, targets) of calibration data; not read by criteria that look at weights only.
        loss: (outputs, targets) -> mean loss of the batch.
        groups: `channel_groups(program, options.attention)` if at hand.
        limits: absolute cost limits in place of `options.reduce` (steps of an iterative schedule).
        stopwatch: how latency is measured, where the budget is on latency.
        gauge: what a microcontroller needs for a cut network, where there is a budget on that.

    Raises:
        UserError: the budget cannot be met with the groups there are; says how far they reach.
    """
    groups = groups or channel_groups(program, options.attention)
    scores = ranked(program, options, batches, loss, groups)
    free = [g for g in groups.groups if not ignored(g, options.ignore)]
    budgets = _budgets(program, groups, options, limits)
    if options.allocation == "global" and (options.scale != "none" or options.criterion not in LOSS_CRITERIA):
        scores = _per_saved(scores, budgets)
    allocate = allocate_uniform if options.allocation == "uniform" else allocate_global

    def choose(extra: Sequence[tuple[str, Budget]]) -> Mask:
        keep = allocate(free, scores, [b for _, b in (*budgets, *extra)], options.round_to, options.minimum)
        check_met(budgets, keep)  # an extra one is a model: whether the network is fast enough is measured
        return keep

    if gauge is not None:
        costs = cache(partial(costs_of, program, groups))
        return ChannelPlan.from_mask(groups, DeviceSearch(program, groups, gauge, costs, choose).run())
    if "latency" not in options.reduce:
        return ChannelPlan.from_mask(groups, choose(()))
    return ChannelPlan.from_mask(groups, meet_latency(program, groups, free, options, stopwatch, choose))


def ranked(
    program: Program, options: PruneOptions, batches: Iterable[Batch], loss: Loss, groups: ChannelGroups
) -> Scores:
    """One score per unit by the criterion, made comparable between groups as the allocation asks."""
    batches = first_examples(batches, options.score_examples)
    free = tuple(group for group in groups.groups if not ignored(group, options.ignore))
    evidence = Evidence(program, groups, batches, loss, options.seed, free, options.aggregation)
    scores = normalized(groups, unit_scores(options.criterion, evidence), options.scale)
    if options.allocation == "sensitivity":
        table = sensitivity(program, batches, loss, criterion=options.criterion, ratios=(0.5,), groups=groups)
        scores = weighted(groups, scores, table)
    return scores


def first_examples(batches: Iterable[Batch], count: int) -> list[Batch]:
    """The leading batches that together hold at least `count` examples (all, if there are fewer)."""
    taken: list[Batch] = []
    for batch in batches:
        if sum(len(targets) for _, targets in taken) >= count:
            break
        taken.append(batch)
    return taken


def ignored(group: ChannelGroup, patterns: Iterable[str]) -> bool:
    """Whether one of the group's tensors or producing nodes matches one of the regular expressions."""
    names = [*(name for name, _ in group.members), *group.producers]
    return any(re.search(pattern, name) for pattern in patterns for name in names)


def _per_saved(scores: Scores, budgets: list[tuple[str, Budget]]) -> Scores:
    """Undo the division by cost for criteria that are no loss: they rank units, not what a unit costs."""
    saved = budgets[0][1].model.per_unit(np.ones(len(scores), bool)) if budgets else np.ones(len(scores))
    return scores * np.maximum(saved, 1e-30)


def _budgets(
    program: Program, groups: ChannelGroups, options: PruneOptions, limits: Mapping[str, float] | None
) -> list[tuple[str, Budget]]:
    everything = np.ones(groups.units, bool)
    budgets = []
    for kind, fraction in options.reduce.items():
        if kind != "latency":
            model = costs_of(program, groups, kind)
            limit = limits[kind] if limits else (1 - fraction) * model.total(everything)
            budgets.append((kind, Budget(model, limit)))
    return budgets


def costs_of(program: Program, groups: ChannelGroups, kind: str) -> Costs:
    """The model of a cost that can be computed: all kinds but latency."""
    if kind == "activations":
        return peak_model(program, groups)
    return cost_model(program, groups, kind)  # type: ignore[arg-type]


def check_met(budgets: Sequence[tuple[str, Budget]], keep: Mask) -> None:
    """Raises: UserError where a budget is not met; says how far the groups reach."""
    for kind, budget in budgets:
        if not budget.met(keep):
            before, reached = budget.model.total(np.ones_like(keep)), budget.model.total(keep)
            raise UserError(
                f"prune.reduce.{kind}: the budget is out of reach",
                found=f"{1 - reached / before:.1%} can go" if before else "nothing to remove",
                expected=f"{1 - budget.limit / before:.1%}" if before else "",
                fix="lower the budget, `minimum` or `round_to`, or look at the refusals of `edgepress inspect`",
            )


__all__ = ["ChannelPlan", "ignored", "make_plan"]
