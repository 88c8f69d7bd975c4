"""`prune`: cut coupled channels."""

from __future__ import annotations

from edgepress.ir import Program
from edgepress.pipeline.bench import Bench, labelled
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
        iterations=config.iterations,
        seed=bench.seed,
    )
    batches = labelled(bench.calibration_batches(config.samples)) if config.needs() else []
    result = prune(program, options, batches, bench.loss)
    facts = result.facts
    summary = (
        f"{facts['channels_before'] - facts['channels_after']:,} of {facts['channels_before']:,} channels cut: "
        f"MACs {facts['macs_before']:,} -> {facts['macs_after']:,}, "
        f"parameters {facts['params_before']:,} -> {facts['params_after']:,}"
    )
    return StepResult(
        result.program, result.changed, summary, facts=facts, refusals=result.refusals, plan=str(result.plan)
    )
