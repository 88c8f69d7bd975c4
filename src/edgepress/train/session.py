"""A training run in progress: the mutable half of `fit`."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgepress.errors import UserError
from edgepress.train import checkpoint
from edgepress.train.average import Average
from edgepress.train.batches import Batch, Batches
from edgepress.train.checkpoint import Checkpoint
from edgepress.train.evaluate import evaluate_module
from edgepress.train.job import Job
from edgepress.train.network import Network, Teachers
from edgepress.train.optimizer import load_state_tensors, make_optimizer, set_learning_rate, state_tensors
from edgepress.train.progress import EpochLog, Progress, Reporter, log_from, write_log
from edgepress.train.randomness import seed_of
from edgepress.train.schedule import learning_rate
from edgepress.train.tasks import check_labels

STEPS_BETWEEN_LOSS_CHECKS = 50  # on an accelerator, where looking at the loss waits for the device


@dataclass
class History:
    """How far a run is; with the tensors, all that a checkpoint holds.

    Attributes:
        epoch: current epoch from 0. position: steps done in it. step: steps done in all.
        loss_sum, samples, seconds: of the current epoch. stale: epochs since the best one.
    """

    epoch: int = 0
    position: int = 0
    step: int = 0
    loss_sum: float = 0.0
    samples: int = 0
    seconds: float = 0.0
    best_metric: float | None = None
    best_epoch: int = 0
    stale: int = 0
    stopped: bool = False
    log: list[EpochLog] = field(default_factory=list)

    def to_facts(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "History":
        return cls(**{**facts, "log": log_from(facts["log"])})


class Session:
    """Owns the network, the optimizer and the history; see `fit`."""

    def __init__(self, job: Job, folder: Path | None, on_progress: Callable[[Progress], None] | None) -> None:
        self.job, self.options, self.folder = job, job.options, folder
        self.history, self.notes, self.resumed_at = History(), list[str](), 0
        self.network = Network(job.program, job.options, job.taps.student, tap=bool(job.taps))
        self.teachers = Teachers(job.teachers, job.options, job.taps.teacher, tap=bool(job.taps))
        self.objective = job.objective
        self._learned = _learned_by(job.objective, job.options)
        self.optimizer = make_optimizer([*self.network.parameters.values(), *self._learned.values()], job.options)
        self.scaler = torch.amp.GradScaler(job.options.device, enabled=job.options.amp == "fp16")
        self.average = Average(self.network.weights, job.options.ema) if job.options.ema else None
        self.batches = Batches(job.train, job.options, _classes(job))
        self.total = self.batches.steps_per_epoch * job.options.epochs
        self.best: dict[str, Tensor] | None = None
        self._reporter = Reporter(on_progress)
        self._fingerprint = job.fingerprint() if folder else ""
        _check_weights(self.network.weights)

    # -- the run -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Train to the end, from the last checkpoint if there is one."""
        self._resume()
        while self.history.epoch < self.options.epochs and not self.history.stopped:
            self._epoch()

    def chosen(self) -> tuple[dict[str, Tensor], float | None, int]:
        """The weights to return, their validation metric, and the epoch they are from."""
        history = self.history
        if self.options.keep == "best" and self.best is not None:
            return _detached(self.best), history.best_metric, history.best_epoch
        last = history.log[-1] if history.log else None
        return _detached(self._judged_weights()), last.metric if last else None, history.epoch

    def _epoch(self) -> None:
        rows_of_steps = self.batches.epoch_rows(self.history.epoch)
        for rows in rows_of_steps[self.history.position :]:
            self._timed_step(rows)
            every = self.options.checkpoint_steps
            if every and self.history.step % every == 0 and self.history.position < len(rows_of_steps):
                self._save_last()
        self._finish_epoch()

    def _timed_step(self, rows: Tensor) -> None:
        begin = time.perf_counter()
        loss = self._step(rows)
        seconds = time.perf_counter() - begin
        history = self.history
        history.step += 1
        history.position += 1
        history.loss_sum += loss * len(rows)
        history.samples += len(rows)
        history.seconds += seconds
        self._reporter.count(seconds, len(rows))
        self._report()

    def _finish_epoch(self) -> None:
        history = self.history
        metric = self._validate()
        entry = EpochLog(
            epoch=history.epoch + 1,
            step=history.step,
            loss=history.loss_sum / history.samples,
            lr=learning_rate(history.step - 1, self.total, self.options),
            metric=metric,
            seconds=history.seconds,
            samples_per_second=history.samples / history.seconds,
        )
        history.log.append(entry)
        history.epoch, history.position = history.epoch + 1, 0
        history.loss_sum, history.samples, history.seconds = 0.0, 0, 0.0
        self._judge(metric)
        self._save_last()
        self._report(force=True)

    def _judge(self, metric: float | None) -> None:
        """Remember the best weights; stop when patience runs out."""
        history, task = self.history, self.job.task
        if metric is None or task is None:
            return
        if task.is_better(metric, history.best_metric):
            history.best_metric, history.best_epoch, history.stale = metric, history.epoch, 0
            self.best = {name: t.detach().clone() for name, t in self._judged_weights().items()}
            self._save_best()
        else:
            history.stale += 1
            history.stopped = 0 < self.options.patience <= history.stale

    # -- one step ------------------------------------------------------------------------------------------------

    def _step(self, rows: Tensor) -> float:
        """One optimizer step over `rows`; gives the mean loss."""
        step = self.history.step
        torch.manual_seed(seed_of(self.options.seed, "step", step))
        set_learning_rate(self.optimizer, learning_rate(step, self.total, self.options))
        batch = self.batches.get(rows, step)
        loss = self._backward(batch)
        self._check_loss(loss)
        self._clip()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self._after_step(step)
        return float(loss)

    def _backward(self, batch: Batch) -> Tensor:
        """Gradients of the batch's mean loss, in `accumulate` parts."""
        total = torch.zeros((), device=self.options.device)
        for part in batch.parts(self.options.accumulate):
            loss = self._loss(part)
            share = len(part) / len(batch)
            self.scaler.scale(loss * share).backward()
            total += loss.detach() * share
        return total

    def _loss(self, batch: Batch) -> Tensor:
        device, task = self.options.device, self.job.task
        inputs = tuple(self._placed(t) for t in batch.inputs)
        targets = None if batch.targets is None else batch.targets.to(device, non_blocking=True)
        goal = task.goal(inputs, targets) if task else targets
        loss = self.objective(self.network(inputs), goal, self.teachers(inputs))
        return loss if self.job.penalty is None else loss + self.job.penalty(self.network.parameters)

    def _placed(self, tensor: Tensor) -> Tensor:
        tensor = tensor.to(self.options.device, non_blocking=True)
        images = self.options.channels_last and tensor.dim() == 4
        return tensor.contiguous(memory_format=torch.channels_last) if images else tensor

    def _clip(self) -> None:
        if self.options.clip:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.network.parameters.values(), self.options.clip)

    @torch.no_grad()
    def _after_step(self, step: int) -> None:
        if self.job.constraint is not None:
            self.job.constraint(self.network.parameters)
        if self.average is not None:
            self.average.update(self.network.weights, step)

    def _check_loss(self, loss: Tensor) -> None:
        step = self.history.step
        if loss.device.type != "cpu" and step % STEPS_BETWEEN_LOSS_CHECKS and self.history.position:
            return
        if not math.isfinite(float(loss)):
            raise self._diverged(float(loss))

    def _diverged(self, loss: float) -> UserError:
        history = self.history
        rate = learning_rate(history.step, self.total, self.options)
        before = f"mean loss of this epoch so far {history.loss_sum / history.samples:.4g}" if history.samples else (
            "it is the first step of the epoch"
        )  # fmt: skip
        kept = ""
        if self.folder and (self.folder / checkpoint.BEST).is_file():
            kept = f"; the best weights so far (epoch {history.best_epoch}) are in {self.folder / checkpoint.BEST}"
        cause = "fp16 overflowed: use `amp: bf16`" if self.options.amp == "fp16" else (
            f"the learning rate is too high: try `lr: {self.options.lr / 10:g}`, a longer `warmup`, or `clip: 1.0`"
        )  # fmt: skip
        return UserError(
            f"the loss became {loss} at step {history.step + 1} (epoch {history.epoch + 1})",
            found=f"learning rate {rate:.3g}, {before}",
            expected="a finite loss",
            fix=cause + kept,
        )

    # -- judging and reporting -----------------------------------------------------------------------------------

    def _judged_weights(self) -> dict[str, Tensor]:
        return self.network.weights if self.average is None else self.average.weights

    def _validate(self) -> float | None:
        if self.job.validation is None or self.job.task is None:
            return None
        examiner = self.network.examiner(self._judged_weights())
        return evaluate_module(examiner, self.job.validation, self.job.task, device=self.options.device)

    def _report(self, *, force: bool = False) -> None:
        history = self.history
        samples, loss_sum = history.samples, history.loss_sum
        last = history.log[-1] if history.log else None
        loss = loss_sum / samples if samples else (last.loss if last else math.nan)

        def make(pace: float, left: float) -> Progress:
            epoch = min(history.epoch + 1, self.options.epochs)
            metric = last.metric if last else None
            return Progress(epoch, self.options.epochs, history.step, self.total, loss, metric, pace, left)

        self._reporter.report(make, self.total - history.step, force=force)

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def _save_last(self) -> None:
        if self.folder is None:
            return
        parts: dict[str, Mapping[str, Tensor]] = {
            "weights": self.network.weights,
            "objective": self._learned,
            "optimizer": state_tensors(self.optimizer),
            "average": {} if self.average is None else self.average.weights,
        }
        tensors = {f"{part}/{name}": t for part, named in parts.items() for name, t in named.items()}
        facts = {"job": self._fingerprint, "history": self.history.to_facts(), "scaler": self.scaler.state_dict()}
        checkpoint.write(self.folder / checkpoint.LAST, Checkpoint(tensors, facts))
        write_log(self.folder / checkpoint.LOG, self.history.log)

    def _save_best(self) -> None:
        if self.folder is not None and self.best is not None:
            facts = {"job": self._fingerprint, "metric": self.history.best_metric, "epoch": self.history.best_epoch}
            tensors = {f"weights/{name}": t for name, t in self.best.items()}
            checkpoint.write(self.folder / checkpoint.BEST, Checkpoint(tensors, facts))

    def _resume(self) -> None:
        """Continue from the folder's checkpoint, if there is one of this very job."""
        found = checkpoint.read(self.folder / checkpoint.LAST) if self.folder else None
        if found is None or self.folder is None:
            return
        self._check_same_job(found)
        self.history = History.from_facts(found.facts["history"])
        self.resumed_at = self.history.step
        _copy_into(self.network.weights, found.part("weights"))
        _copy_into(self._learned, found.part("objective"))
        load_state_tensors(self.optimizer, found.part("optimizer"))
        self.scaler.load_state_dict(found.facts["scaler"])
        if self.average is not None:
            _copy_into(self.average.weights, found.part("average"))
        best = checkpoint.read(self.folder / checkpoint.BEST)
        self.best = best.part("weights") if best else None

    def _check_same_job(self, found: Checkpoint) -> None:
        if found.facts.get("job") != self._fingerprint:
            raise UserError(
                f"the checkpoint in {self.folder} belongs to another training",
                found="another program, data set, teacher or other options",
                expected="what the checkpoint was written with",
                fix=f"delete {self.folder}, or name another folder",
            )


def _learned_by(objective: Any, options: Any) -> dict[str, Tensor]:
    """Parameters of the objective itself (feature projections), moved to the device."""
    if not isinstance(objective, torch.nn.Module):
        return {}
    return dict(objective.to(options.device).named_parameters())


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


@torch.no_grad()
def _copy_into(live: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    for name, tensor in live.items():
        tensor.copy_(saved[name])


def _detached(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU in the ordinary memory layout."""
    return {name: t.detach().to("cpu").contiguous().clone() for name, t in weights.items()}
