"""`train`: recover what compression took, with the original network as teacher where the recipe asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from edgepress.data.dataset import Dataset, split
from edgepress.distill.objective import Objective, soft_targets
from edgepress.distill.term import TASK, Term
from edgepress.ir import Program
from edgepress.passes.mask_weights import kept_zero
from edgepress.pipeline.bench import Bench
from edgepress.pipeline.steps.step import StepResult, Workplace
from edgepress.recipe.steps import Train
from edgepress.recipe.steps.train import Distill
from edgepress.train import Progress, Task, fit, options_from
from edgepress.train.tasks import first


def run(config: Train, program: Program, bench: Bench, place: Workplace) -> StepResult:
    """Train from the program's weights."""
    train, validation = _split(bench.samples.training(), config.validation, bench.seed)
    options = options_from({**config.loop_settings(), "seed": bench.seed, "device": bench.device})
    plan = _plan(config, train, validation)
    if place.dry:
        return StepResult(program, True, plan, plan=plan)
    result = fit(
        program,
        train,
        objective=objective(bench.task, config.distill, config.label_smoothing),
        options=options,
        task=bench.task,
        validation=validation,
        teacher=bench.original if config.distill else None,
        constraint=kept_zero(program),
        checkpoints=place.scratch,
        on_progress=_teller(bench),
    )
    facts: dict[str, float | int | str] = {
        "epochs": config.epochs,
        "best_epoch": result.best_epoch,
        "samples": len(train),
    }
    if result.best_metric is not None:
        facts["validation_" + bench.task.metric] = result.best_metric
    summary = plan
    if result.best_epoch == 0 and validation is not None:
        summary += "; no epoch was better on the held-out samples: the weights stay as they were"
    return StepResult(result.program, True, summary, facts=facts, plan=plan)


def objective(task: Task, distill: Distill | None, smoothing: float) -> Callable[[Any, Tensor | None, Any], Tensor]:
    """The task's loss, or its weighted sum with a distillation loss."""

    def task_loss(outputs: Any, targets: Tensor) -> Tensor:
        return task.loss(first(outputs), targets, smoothing)

    if distill is None:
        return Objective([Term(TASK)], task_loss)
    labels_count = distill.weight < 1  # learning from the teacher alone needs none
    return soft_targets(
        task_loss if labels_count else None, loss=distill.loss, weight=distill.weight, temperature=distill.temperature
    )


def _split(data: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset | None]:
    return split(data, share, seed) if share else (data, None)


def _plan(config: Train, train: Dataset, validation: Dataset | None) -> str:
    plan = f"{config.epochs} epochs over {len(train)} samples, {config.optimizer}, lr {config.lr:g} {config.schedule}"
    if validation is not None:
        plan += f", best epoch on {len(validation)} held-out samples"
    if config.distill:
        d = config.distill
        plan += f", taught by the original ({d.loss}, temperature {d.temperature:g}, weight {d.weight:g})"
    return plan


def _teller(bench: Bench) -> Callable[[Progress], None]:
    def tell(p: Progress) -> None:
        metric = "" if p.metric is None else f", {bench.task.metric} {p.metric:.4f}"
        bench.reporter.progress(
            f"epoch {p.epoch}/{p.epochs}, loss {p.loss:.4f}{metric}, "
            f"{p.samples_per_second:,.0f} samples/s, {p.seconds_left:.0f} s left"
        )

    return tell
