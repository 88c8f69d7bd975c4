"""`prune`: cut coupled channels."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext

from torch import Tensor

from edgepress.analysis.channels import channel_groups
from edgepress.ir import Program
from edgepress.pipeline.bench import Bench, labelled
from edgepress.pipeline.forecast import gauge_of
from edgepress.pipeline.race import race
from edgepress.pipeline.steps.step import StepResult, Workplace
from edgepress.prune import PruneOptions, group_lasso, prune
from edgepress.prune.evidence import Batch, Loss
from edgepress.prune.plan import ignored
from edgepress.prune.unlabelled import without_labels
from edgepress.recipe.steps.prune import Learn, Prune
from edgepress.train import fit, options_from


def run(config: Prune, program: Program, bench: Bench, place: Workplace) -> StepResult:
    """Score, plan, cut; re-fit what is left where the recipe asks for it."""
    options = PruneOptions(
        criterion=config.criterion,
        reduce=config.reduce.shares if config.reduce else {},
        aggregation=config.aggregation,
        normalization=config.normalization,
        allocation=config.allocation,
        attention=config.attention,
        round_to=config.round_to or bench.target.channel_alignment,
        minimum=config.minimum,
        ignore=config.ignore,
        reconstruct=config.reconstruct,
        reestimate=config.reestimate,
        iterations=config.iterations,
        seed=bench.seed,
    )
    batches, loss = _evidence(config, program, bench)
    if config.learn is not None and not place.dry:
        program = sparser(program, config, config.learn, bench, place)
    limits = config.budget.limits if config.budget else {}
    gauge = gauge_of(limits, bench) if limits else None
    with race(program, bench) if "latency" in options.reduce else nullcontext() as stopwatch:
        result = prune(program, options, batches, loss, stopwatch, gauge)
        time_share = None if stopwatch is None else stopwatch(result.program)
    facts: dict[str, float | int | str] = dict(result.facts)
    summary = counted(result.facts)
    if time_share is not None:
        facts["latency_share"] = round(time_share, 4)
        summary += f", {time_share:.1%} of the time on {bench.target.name}"
    for figure, share in (gauge(result.program) if gauge else {}).items():
        facts[f"{figure}_limit"], facts[f"{figure}_share"] = limits[figure], round(share, 4)
        summary += f", {share:.1%} of {limits[figure]:,} {figure.replace('_', ' ')} on {bench.target.name}"
    return StepResult(
        result.program, result.changed, summary, facts=facts, refusals=result.refusals, plan=result.plan.to_text()
    )


def counted(facts: Mapping[str, int]) -> str:
    """What went, in channels, MACs and parameters."""
    return (
        f"{facts['channels_before'] - facts['channels_after']:,} of {facts['channels_before']:,} channels cut: "
        f"MACs {facts['macs_before']:,} -> {facts['macs_after']:,}, "
        f"parameters {facts['params_before']:,} -> {facts['params_after']:,}"
    )


def _evidence(config: Prune, program: Program, bench: Bench) -> tuple[list[Batch], Loss]:
    """Calibration batches and the loss that channels are judged by; none where weights alone are looked at."""
    given = list(bench.calibration_batches(config.samples)) if config.needs() else []
    batches = labelled(given)
    return (batches, bench.loss) if batches or not given else without_labels(program, [x for x, _ in given], bench.seed)


def sparser(program: Program, config: Prune, learn: Learn, bench: Bench, place: Workplace) -> Program:
    """The program after training with a group lasso on all channels that may be cut."""
    groups = channel_groups(program, config.attention)
    free = [group for group in groups.groups if not ignored(group, config.ignore)]

    def penalty(weights: Mapping[str, Tensor]) -> Tensor:
        return learn.strength * group_lasso(groups, weights, free)

    settings = {"epochs": learn.epochs, "lr": learn.lr, "batch_size": learn.batch_size, "optimizer": "sgd",
                "keep": "last", "seed": bench.seed, "device": bench.device}  # fmt: skip
    return fit(
        program,
        bench.samples.training(),
        objective=bench.task.objective(),
        options=options_from(settings),
        task=bench.task,
        penalty=penalty,
        checkpoints=place.scratch,
    ).program
