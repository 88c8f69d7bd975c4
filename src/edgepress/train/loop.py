"""The one training loop: recovery after pruning, distillation, sparsity learning and QAT all run here.

Same program, data, options and number of threads: the same bytes, also when the run was killed and resumed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from edgepress.errors import UserError
from edgepress.ir.program import Program
from edgepress.train.batchnorm import settled
from edgepress.train.job import Job, Objective, Taps
from edgepress.train.options import TrainOptions
from edgepress.train.progress import EpochLog, Progress
from edgepress.train.randomness import reproducible
from edgepress.train.samples import Samples
from edgepress.train.session import Session
from edgepress.train.tasks import Task


@dataclass(frozen=True)
class TrainResult:
    """What came out.

    Attributes:
        program: with the trained weights. best_metric: validation metric of these weights, `None` without validation.
        metric: its name. log: one entry per epoch.
        best_epoch: the epoch (from 1) the weights are from, 0 for those it began with.
        resumed_at: step a previous run had reached, 0 for a fresh one. notes: what was done otherwise than asked.
    """

    program: Program
    best_metric: float | None
    metric: str
    best_epoch: int
    log: tuple[EpochLog, ...]
    resumed_at: int = 0
    notes: tuple[str, ...] = ()


def fit(
    program: Program,
    train: Samples,
    *,
    objective: Objective,
    options: TrainOptions,
    task: Task | None = None,
    validation: Samples | None = None,
    teacher: Program | Sequence[Program] | None = None,
    taps: Taps | None = None,
    penalty: Callable[[Mapping[str, Tensor]], Tensor] | None = None,
    constraint: Callable[[Mapping[str, Tensor]], None] | None = None,
    paces: Mapping[str, float] | None = None,
    checkpoints: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_epoch: Callable[[EpochLog], None] | None = None,
) -> TrainResult:
    """Train `program`; the arguments are those of `Job`.

    Args:
        taps: those that the objective names itself, unless given.
        checkpoints: folder for `last.safetensors`, `best.safetensors` and `log.jsonl`. A run that finds its own
            checkpoint there continues from it and ends with the same bytes as one that was never interrupted.
        on_progress: called about twice a second and at the end of each epoch.
        on_epoch: called with each finished epoch's entry of the log, by the process that writes.

    Raises:
        UserError: data that do not fit, a loss that is not finite, a checkpoint of another job.
        ToolError: the disk is full.
    """
    program = settled(program, train) if options.settle else program
    job = Job(program, train, objective, options, task, validation, _teachers(teacher), taps or Taps.of(objective),
              penalty, constraint, paces or {})  # fmt: skip
    if validation is not None and task is None:
        raise UserError("validation needs a task", found="no task", expected="one of train.tasks", fix="set `task`")
    with reproducible():
        session = Session(job, checkpoints, on_progress, on_epoch)
        session.run()
        return _result(session)


def _teachers(teacher: Program | Sequence[Program] | None) -> tuple[Program, ...]:
    if teacher is None:
        return ()
    return (teacher,) if isinstance(teacher, Program) else tuple(teacher)


def _result(session: Session) -> TrainResult:
    job, history = session.job, session.history
    weights, metric, epoch = session.chosen()
    note = f"trained {len(history.log)} epochs, seed {job.options.seed}"
    return TrainResult(
        program=job.program.with_state(weights, note=note),
        best_metric=metric,
        metric=job.task.metric if job.task else "",
        best_epoch=epoch,
        log=tuple(history.log),
        resumed_at=session.resumed_at,
        notes=tuple(session.notes),
    )
