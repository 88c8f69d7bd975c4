"""`prune`: cut coupled channels."""

from __future__ import annotations

from contextlib import nullcontext

from edgepress.ir import Program
from edgepress.pipeline.bench import Bench, labelled
from edgepress.pipeline.race import race
from edgepress.pipeline.steps.step import StepResult, Workplace
from edgepress.prune import PruneOptions, prune
from edgepress.recipe.steps import Prune


def run(config: Prune, program: Program, bench: Bench, place: Workplace) -> StepResult:
    """Score, plan, cut; re-fit what is left where the recipe asks for it."""
    options = PruneOptions(
        criterion=config.criterion,
        reduce=config.reduce.shares,
        allocation=config.allocation,
        round_to=config.round_to or bench.target.channel_alignment,
        minimum=config.minimum,
        ignore=config.ignore,
        reconstruct=config.reconstruct,
        reestimate=config.reestimate,
        iterations=config.iterations,
        seed=bench.seed,
    )
    batches = labelled(bench.calibration_batches(config.samples)) if config.needs() else []
    with race(program, bench) if config.reduce.latency else nullcontext() as stopwatch:
        result = prune(program, options, batches, bench.loss, stopwatch)
    facts: dict[str, float | int | str] = dict(result.facts)
    counts = result.facts
    summary = (
        f"{counts['channels_before'] - counts['channels_after']:,} of {counts['channels_before']:,} channels cut: "
        f"MACs {counts['macs_before']:,} -> {counts['macs_after']:,}, "
        f"parameters {counts['params_before']:,} -> {counts['params_after']:,}"
    )
    if stopwatch is not None:
        facts["latency_share"] = round(stopwatch(result.program), 4)
        summary += f", {facts['latency_share']:.1%} of the time on {bench.target.name}"
    return StepResult(
        result.program, result.changed, summary, facts=facts, refusals=result.refusals, plan=result.plan.to_text()
    )
