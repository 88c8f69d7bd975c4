"""`train`: recover what compression took, taught by the original or another network where the recipe asks for it.

Behind a `quantize` step this is quantization-aware training: see `quantize.training`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from edgepress.data.dataset import Dataset, split
from edgepress.distill import Objective, Term, automatic_taps, check_comparable, read_terms
from edgepress.distill.term import TASK
from edgepress.errors import UserError
from edgepress.ir import Program, Refusal
from edgepress.passes.mask_weights import kept_zero
from edgepress.pipeline.bench import Bench
from edgepress.pipeline.steps.step import StepResult, Workplace
from edgepress.quantize import training
from edgepress.recipe.steps import Train
from edgepress.recipe.steps.distill import Distill, Loss
from edgepress.targets.capability import load_capability
from edgepress.train import EpochLog, Progress, Task, TrainOptions, TrainResult, fit, options_from
from edgepress.train.tasks import first
from edgepress.train.trackers import open_tracker

FEWEST_TO_JUDGE_BY = 20  # held-out samples; fewer choose the best epoch by luck


@dataclass(frozen=True)
class Lesson:
    """Who learns from whom, on what.

    Attributes:
        student: in the form that is trained. teachers: none for the task's loss alone.
        aware: the form a quantized student is trained in, with its learned scales.
        losses: what is summed up; none for the task's loss alone. refusals: what was not done, and why.
    """

    student: Program
    teachers: tuple[Program, ...]
    train: Dataset
    validation: Dataset | None
    options: TrainOptions
    aware: training.Trainable | None = None
    losses: tuple[Loss, ...] = ()
    refusals: tuple[Refusal, ...] = ()


def run(config: Train, program: Program, bench: Bench, place: Workplace) -> StepResult:
    """Train from the program's weights, or those of the student that the recipe names."""
    lesson = _lesson(config, bench.network(config.student) if config.student else program, bench)
    objective = make_objective(config, lesson, bench)
    plan = _plan(config, lesson)
    if place.dry:
        start = lesson.student if config.student else program
        return StepResult(start, True, plan, refusals=lesson.refusals, plan=plan)
    with _trackers(config, place) as on_epoch:
        result = fit(
            lesson.student,
            lesson.train,
            objective=objective,
            options=lesson.options,
            task=bench.task,
            validation=lesson.validation,
            teacher=lesson.teachers,
            constraint=_constraint(lesson),
            paces=lesson.aware.paces if lesson.aware else None,
            checkpoints=place.scratch,
            on_progress=_teller(bench),
            on_epoch=on_epoch,
        )
    return _result(lesson, result, plan)


def _constraint(lesson: Lesson) -> Callable[[Mapping[str, Tensor]], None]:
    """Pruned weights stay zero, and learned scales near where calibration put them."""
    keeps = [keep for keep in (kept_zero(lesson.student), lesson.aware and lesson.aware.keep) if keep]

    def constrain(parameters: Mapping[str, Tensor]) -> None:
        for keep in keeps:
            keep(parameters)

    return constrain


def make_objective(config: Train, lesson: Lesson, bench: Bench) -> Objective:
    """The task's loss, or a weighted sum with losses against the teachers.

    Raises:
        UserError: losses that do not fit these networks or these data.
    """
    task_loss = _task_loss(bench.task, config.label_smoothing)
    if not lesson.losses:
        return Objective([Term(TASK)], task_loss)
    teacher = lesson.teachers[0]
    terms = read_terms([loss.spec() for loss in lesson.losses], lesson.student, teacher)
    for each in lesson.teachers:
        check_comparable(lesson.student, each, terms)
    return Objective(terms, task_loss, student=lesson.student, teacher=teacher, seed=bench.seed)


def _task_loss(task: Task, smoothing: float) -> Callable[[Any, Tensor], Tensor]:
    def loss(outputs: Any, targets: Tensor) -> Tensor:
        return task.loss(first(outputs), targets, smoothing)

    return loss


def _lesson(config: Train, program: Program, bench: Bench) -> Lesson:
    train, validation, refusals = _split(bench.samples.training(), config.validation, bench.seed)
    _check_targets(config, train, bench.task)
    cache = config.distill is not None and config.distill.cache
    settings = {**config.loop_settings(), "seed": bench.seed, "device": bench.device, "cache_teacher": cache}
    lesson = Lesson(
        program, _teachers(config.distill, bench), train, validation, options_from(settings), refusals=refusals
    )
    lesson = _quantization_aware(lesson, bench) if training.is_quantized(program) else lesson
    return _with_losses(lesson, config.distill, bench) if config.distill else lesson


def _with_losses(lesson: Lesson, distill: Distill, bench: Bench) -> Lesson:
    """The lesson with its losses; edgepress itself chooses hints only where features can be compared."""
    why = _no_hints(lesson) if distill.chooses else ""
    losses = distill.terms(bench.task.name, features=not why)
    refusals = (Refusal("hint", why, "one teacher with features of the student's sizes"),) if why else ()
    return replace(lesson, losses=losses, refusals=(*lesson.refusals, *refusals))


def _no_hints(lesson: Lesson) -> str:
    """Why features cannot be compared, "" if they can."""
    if len(lesson.teachers) > 1:
        return f"{len(lesson.teachers)} teachers"
    try:
        automatic_taps(lesson.student, lesson.teachers[0])
    except UserError as error:
        return f"{error.what}: {error.found}"
    return ""


def _quantization_aware(lesson: Lesson, bench: Bench) -> Lesson:
    capability = load_capability(bench.target.capability)
    form = training.trainable(lesson.student, capability, relative=lesson.options.optimizer != "sgd")
    return replace(lesson, student=form.program, aware=form)


def _teachers(distill: Distill | None, bench: Bench) -> tuple[Program, ...]:
    if distill is None:
        return ()
    return (bench.original,) if distill.teachers is None else tuple(map(bench.network, distill.teachers))


def _split(data: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset | None, tuple[Refusal, ...]]:
    """(training data, held-out data, why there are none).

    A handful of held-out samples would choose the best epoch by luck, and be missed in training.
    """
    if not share:
        return data, None, ()
    if data.targets is None:
        return data, None, (Refusal("validation", "the training data has no targets", "labelled data"),)
    if share * len(data) < FEWEST_TO_JUDGE_BY:
        found = f"{share:g} of {len(data)} samples"
        return data, None, (Refusal("validation", found, f"at least {FEWEST_TO_JUDGE_BY} held-out samples"),)
    return *split(data, share, seed), ()


def _check_targets(config: Train, train: Dataset, task: Task) -> None:
    if train.targets is None and not task.from_inputs and config.needs_labels(task.name):
        raise UserError(
            "the step train needs targets",
            found=f"{train.source or 'training data'} without targets",
            expected="targets, or a teacher alone",
            fix="name the targets under data.train, or learn from the teacher alone: distill: {weight: 1.0}",
        )


def _result(lesson: Lesson, result: TrainResult, plan: str) -> StepResult:
    facts: dict[str, float | int | str] = {
        "epochs": len(result.log),
        "best_epoch": result.best_epoch,
        "samples": len(lesson.train),
    }
    if result.best_metric is not None:
        facts["validation_" + result.metric] = result.best_metric
    summary = plan
    if result.best_epoch == 0 and lesson.validation is not None:
        summary += "; no epoch was better on the held-out samples: the weights stay as they were"
    program = training.finished(result.program) if lesson.aware else result.program
    refusals = (*lesson.refusals, *(Refusal("training", note, "see docs/training.md") for note in result.notes))
    return StepResult(program, True, summary, facts=facts, refusals=refusals, plan=plan)


def _plan(config: Train, lesson: Lesson) -> str:
    student = f"{config.student.reference}: " if config.student else ""
    aware = "quantization-aware, " if lesson.aware else ""
    plan = f"{student}{aware}{config.epochs} epochs over {len(lesson.train)} samples, "
    plan += f"{config.optimizer}, lr {config.lr:g} {config.schedule}"
    if lesson.validation is not None:
        plan += f", best epoch on {len(lesson.validation)} held-out samples"
    if config.distill is None:
        return plan
    return f"{plan}, taught by {config.distill.source}: {' + '.join(map(str, lesson.losses))}"


@contextmanager
def _trackers(config: Train, place: Workplace) -> Iterator[Callable[[EpochLog], None]]:
    """Tells every tracker of each epoch; closes them all in the end."""
    with ExitStack() as opened:
        assert place.logs is not None or not config.track
        trackers = [open_tracker(name, place.logs, config.loop_settings()) for name in config.track if place.logs]
        for tracker in trackers:
            opened.callback(tracker.close)

        def on_epoch(entry: EpochLog) -> None:
            for tracker in trackers:
                tracker.epoch(entry)

        yield on_epoch


def _teller(bench: Bench) -> Callable[[Progress], None]:
    def tell(p: Progress) -> None:
        metric = "" if p.metric is None else f", {bench.task.metric} {p.metric:.4f}"
        bench.reporter.progress(
            f"epoch {p.epoch}/{p.epochs}, loss {p.loss:.4f}{metric}, "
            f"{p.samples_per_second:,.0f} samples/s, {p.seconds_left:.0f} s left"
        )

    return tell
