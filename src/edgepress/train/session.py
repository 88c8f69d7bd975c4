"""A training run in progress: epochs, validation, checkpoints. The mutable half of `fit`."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from edgepress.errors import UserError
from edgepress.train import checkpoint
from edgepress.train.batches import Batches
from edgepress.train.checkpoint import Checkpoint
from edgepress.train.engine import engine_for
from edgepress.train.evaluate import evaluate_module
from edgepress.train.history import History
from edgepress.train.job import Job
from edgepress.train.progress import EpochLog, Progress, Reporter, write_log
from edgepress.train.schedule import learning_rate
from edgepress.train.stepper import Stepper
from edgepress.train.tasks import check_labels
from edgepress.train.teachers import LARGEST_CACHE, RememberedTeachers, Teachers, answer_bytes

STEPS_BETWEEN_LOSS_CHECKS = 50  # on an accelerator, where looking at the loss waits for the device


class Session:
    """Owns the stepper and the history; see `fit`.

    Attributes:
        history: how far the run is. resumed_at: the step it continued from. notes: what was done otherwise than asked.
    """

    def __init__(
        self,
        job: Job,
        folder: Path | None,
        on_progress: Callable[[Progress], None] | None,
        on_epoch: Callable[[EpochLog], None] | None = None,
    ) -> None:
        self.job, self._options = job, job.options
        self.history, self.notes, self.resumed_at = History(), list[str](), 0
        self._engine = engine_for(job.options)
        self._folder = folder
        self._fingerprint = job.fingerprint() if folder else ""
        _check_weights(job.program.state())
        self._batches = Batches(job.train, job.options, _classes(job))
        steps = self._batches.steps_per_epoch * job.options.epochs
        self._stepper = Stepper(job, self._engine, self._teachers(), steps)
        self._best: dict[str, Tensor] | None = None
        self._reporter = Reporter(on_progress if self._engine.rank == 0 else None)
        self._on_epoch = on_epoch if self._engine.rank == 0 else None
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=job.options.device)

    def run(self) -> None:
        """Train to the end, from the last checkpoint if there is one."""
        self._resume()
        if self.history.step == 0 and self._options.keep == "best":
            # The weights it starts with compete: training that helps nothing on held-out data must not be kept.
            self._judge(self._validate())
        while self.history.epoch < self._options.epochs and not self.history.stopped:
            self._epoch()

    def chosen(self) -> tuple[dict[str, Tensor], float | None, int]:
        """The weights to return, their validation metric, and the epoch they are from."""
        history = self.history
        if self._options.keep == "best" and self._best is not None:
            return _detached(self._best), history.best_metric, history.best_epoch
        last = history.log[-1] if history.log else None
        return _detached(self._stepper.judged_weights()), last.metric if last else None, history.epoch

    def _teachers(self) -> Teachers | RememberedTeachers:
        job, options = self.job, self._options
        teachers = Teachers(job.teachers, options, job.taps.teacher, tap=bool(job.taps))
        if not options.cache_teacher or not job.teachers:
            return teachers
        if reason := self._why_not_cached():
            self.notes.append(f"the teacher's outputs are not cached: {reason}")
            return teachers
        return RememberedTeachers(teachers, job.train, options, self._writable_folder(), self._fingerprint)

    def _why_not_cached(self) -> str:
        if self.job.taps:
            return "features are tapped"
        if self._batches.varies:
            return "augmentation shows it other samples each time"
        size = answer_bytes(self.job.teachers[0]) * len(self.job.train)
        return "" if size <= LARGEST_CACHE else f"they would take {size / 1e9:.1f} GB"

    # -- epochs --------------------------------------------------------------------------------------------------

    def _epoch(self) -> None:
        rows_of_steps = self._batches.epoch_rows(self.history.epoch)
        for rows in rows_of_steps[self.history.position :]:
            self.step(rows)
            every = self._options.checkpoint_steps
            if every and self.history.step % every == 0 and self.history.position < len(rows_of_steps):
                self._save_last()
        self._finish_epoch()

    def step(self, rows: Tensor) -> None:
        """One optimizer step over these rows of the data, counted and reported."""
        history, begin = self.history, time.perf_counter()
        loss = self._stepper.step(self._batches.get(rows, history.step), history.step)
        self._check_loss(loss)
        self._loss_sum += loss.double() * len(rows)
        seconds = time.perf_counter() - begin
        history.step += 1
        history.position += 1
        history.samples += len(rows)
        history.seconds += seconds
        self._reporter.count(seconds, len(rows))
        self._report()

    def _finish_epoch(self) -> None:
        history, begin = self.history, time.perf_counter()
        self._read_loss_sum()  # waits for an accelerator
        history.seconds += time.perf_counter() - begin
        self._stepper.synchronise()
        metric = self._validate()
        history.close_epoch(learning_rate(history.step - 1, self._stepper.total, self._options), metric)
        self._loss_sum.zero_()
        self._judge(metric)
        self._save_last()
        if self._on_epoch is not None:
            self._on_epoch(history.log[-1])
        self._report(force=True)

    def _judge(self, metric: float | None) -> None:
        """Remember the best weights; stop when patience runs out.

        Of equally good epochs the last is kept: small validation sets tie often, and later weights saw lower rates.
        """
        history, task = self.history, self.job.task
        if metric is None or task is None:
            return
        better = task.is_better(metric, history.best_metric)
        history.stale = 0 if better else history.stale + 1
        history.stopped = 0 < self._options.patience <= history.stale
        if better or metric == history.best_metric:
            history.best_metric, history.best_epoch = metric, history.epoch
            self._best = {name: t.detach().clone() for name, t in self._stepper.judged_weights().items()}
            self._save_best()

    def _validate(self) -> float | None:
        if self.job.validation is None or self.job.task is None:
            return None
        examiner = self._stepper.network.examiner(self._stepper.judged_weights())
        return evaluate_module(examiner, self.job.validation, self.job.task, device=self._options.device)

    # -- watching ------------------------------------------------------------------------------------------------

    def _read_loss_sum(self) -> None:
        self.history.loss_sum = float(self._loss_sum)

    def _check_loss(self, loss: Tensor) -> None:
        waits = loss.device.type != "cpu"
        if waits and self.history.step % STEPS_BETWEEN_LOSS_CHECKS:
            return
        if not math.isfinite(float(loss)):
            raise self._diverged(float(loss))

    def _diverged(self, loss: float) -> UserError:
        self._read_loss_sum()
        history, options = self.history, self._options
        before = "" if history.mean_loss is None else f", mean loss of this epoch so far {history.mean_loss:.4g}"
        rate = learning_rate(history.step, self._stepper.total, options)
        cause = f"the learning rate is too high: try `lr: {options.lr / 10:g}`, a longer `warmup`, or `clip: 1.0`"
        if options.amp == "fp16":
            cause = "fp16 overflows above 65504: use `amp: bf16`"
        best = self._folder / checkpoint.BEST if self._folder else None
        kept = f"; the best weights so far (epoch {history.best_epoch}) are in {best}" if self._best and best else ""
        return UserError(
            f"the loss became {loss} at step {history.step + 1} (epoch {history.epoch + 1})",
            found=f"learning rate {rate:.3g}{before}",
            expected="a finite loss",
            fix=cause + kept,
        )

    def _report(self, *, force: bool = False) -> None:
        self._reporter.report(self._progress, self._stepper.total - self.history.step, force=force)

    def _progress(self, samples_per_second: float, seconds_left: float) -> Progress:
        self._read_loss_sum()
        history = self.history
        last = history.log[-1] if history.log else None
        loss = history.mean_loss if history.mean_loss is not None else (last.loss if last else math.nan)
        return Progress(
            epoch=min(history.epoch + 1, self._options.epochs),
            epochs=self._options.epochs,
            step=history.step,
            steps=self._stepper.total,
            loss=loss,
            metric=last.metric if last else None,
            samples_per_second=samples_per_second,
            seconds_left=seconds_left,
        )

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def _writable_folder(self) -> Path | None:
        """The folder, for the one process that writes."""
        return self._folder if self._engine.rank == 0 else None

    def _save_last(self) -> None:
        folder = self._writable_folder()
        if folder is None:
            return
        self._read_loss_sum()
        facts = {"job": self._fingerprint, "history": self.history.to_facts(), "stepper": self._stepper.facts()}
        checkpoint.write(folder / checkpoint.LAST, Checkpoint(self._stepper.tensors(), facts))
        write_log(folder / checkpoint.LOG, self.history.log)

    def _save_best(self) -> None:
        folder = self._writable_folder()
        if folder is not None and self._best is not None:
            facts = {"job": self._fingerprint, "metric": self.history.best_metric, "epoch": self.history.best_epoch}
            checkpoint.write(folder / checkpoint.BEST, Checkpoint(self._best, facts))

    def _resume(self) -> None:
        """Continue from the folder's checkpoint, if there is one of this very job."""
        found = checkpoint.read(self._folder / checkpoint.LAST) if self._folder else None
        if found is None or self._folder is None:
            return
        self._check_same_job(found)
        self.history = History.from_facts(found.facts["history"])
        self.resumed_at = self.history.step
        self._loss_sum.fill_(self.history.loss_sum)
        self._stepper.load(found.tensors, found.facts["stepper"])
        best = checkpoint.read(self._folder / checkpoint.BEST)
        self._best = dict(best.tensors) if best and self.history.best_metric is not None else None

    def _check_same_job(self, found: Checkpoint) -> None:
        if found.facts.get("job") != self._fingerprint:
            raise UserError(
                f"the checkpoint in {self._folder} belongs to another training",
                found="another program, data set, teacher or other options",
                expected="what the checkpoint was written with",
                fix=f"delete {self._folder}, or name another folder",
            )


def _classes(job: Job) -> int:
    """Number of classes of the task; checks the labels on the way."""
    if job.task is None:
        return 0
    output = next(n for n in reversed(job.program.graph.nodes) if n.op == "output").args[0][0]
    return check_labels(job.task, job.train.targets, output.meta["val"])


def _check_weights(weights: Mapping[str, Tensor]) -> None:
    bad = [name for name, t in weights.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if bad:
        raise UserError("the network to train holds weights that are not finite", found=", ".join(bad[:5]),
                        expected="finite weights", fix="check the file the weights came from")  # fmt: skip


def _detached(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU in the ordinary memory layout."""
    return {name: t.detach().to("cpu").contiguous().clone() for name, t in weights.items()}
