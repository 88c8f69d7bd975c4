"""`train`: recover what compression took, with the original network as teacher where the recipe asks for it."""

from __future__ import annotations

from edgepress.distill.objective import make_objective
from edgepress.ir import Program
from edgepress.pipeline.bench import Bench
from edgepress.pipeline.steps.step import StepResult, Workplace
from edgepress.recipe.steps import Train
from edgepress.train import TrainOptions, fit


def run(config: Train, program: Program, bench: Bench, place: Workplace) -> StepResult:
    """Train from the program's weights."""
    data = bench.samples.training()
    teacher = bench.original if config.distill else None
    plan = f"{config.epochs} epochs over {len(data)} samples, {config.optimizer}, lr {config.lr:g}" + _taught(config)
    if place.dry:
        return StepResult(program, True, plan, plan=plan)
    result = fit(
        program,
        data,
        task=bench.task,
        objective=make_objective(bench.task, config.distill),
        options=TrainOptions(),
        teacher=teacher,
        checkpoints=place.scratch,
        on_progress=bench.reporter.progress,
    )
    return StepResult(result.program, True, plan, plan=plan)


def _taught(config: Train) -> str:
    if config.distill is None:
        return ""
    d = config.distill
    return f", taught by the original ({d.loss}, temperature {d.temperature:g}, weight {d.weight:g})"
