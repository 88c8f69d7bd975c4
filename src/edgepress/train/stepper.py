"""One optimizer step, and everything that it changes."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from edgepress.train.average import Average
from edgepress.train.batches import Batch
from edgepress.train.engine import Engine
from edgepress.train.job import Job, Scheduled
from edgepress.train.network import Network
from edgepress.train.optimizer import load_state_tensors, make_optimizer, set_learning_rate, state_tensors
from edgepress.train.options import TrainOptions
from edgepress.train.randomness import seed_of
from edgepress.train.schedule import learning_rate
from edgepress.train.teachers import RememberedTeachers, Teachers


class Stepper:
    """Network, the objective's own parameters, optimizer and moving average.

    Attributes:
        network: in training. total: steps of the whole run.
    """

    def __init__(self, job: Job, engine: Engine, teachers: Teachers | RememberedTeachers, total: int) -> None:
        self._job, self._options, self._engine, self._teachers, self.total = job, job.options, engine, teachers, total
        self.network = Network(job.program, job.options, job.taps.student, engine, tap=bool(job.taps))
        # The objective that was given stays as it is, as the program does.
        learns = isinstance(job.objective, torch.nn.Module)
        self._objective = copy.deepcopy(job.objective) if learns else job.objective
        self._learned = _learned_by(self._objective, job.options)
        # Names of the network's parameters are dotted or plain; "objective/" cannot be among them.
        trained = {**self.network.parameters, **{f"objective/{name}": t for name, t in self._learned.items()}}
        self._trained = list(trained.values())
        self._optimizer = make_optimizer(trained, job.options, job.paces)
        self._scaler = torch.amp.GradScaler(torch.device(job.options.device).type, enabled=job.options.amp == "fp16")
        self._average = Average(self.network.weights, job.options.ema) if job.options.ema else None

    def step(self, batch: Batch, step: int) -> Tensor:
        """Step number `step` on `batch`; gives the mean loss, on the device."""
        torch.manual_seed(seed_of(self._options.seed, "step", step * self._engine.world + self._engine.rank))
        set_learning_rate(self._optimizer, learning_rate(step, self.total, self._options))
        if isinstance(self._objective, Scheduled):
            self._objective.at(step / self.total)
        loss = self._backward(batch)
        self._clip()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        self._finish(step)
        return loss

    def judged_weights(self) -> dict[str, Tensor]:
        """The weights that count: the moving average if there is one."""
        return self.network.weights if self._average is None else self._average.weights

    def synchronise(self) -> None:
        """Make the batch-norm statistics of all processes those of the first."""
        self._engine.from_first(self.judged_weights().values())

    def tensors(self) -> dict[str, Tensor]:
        """All state that is made of tensors, for a checkpoint."""
        parts: dict[str, Mapping[str, Tensor]] = {
            "weights": self.network.weights,
            "objective": self._learned,
            "optimizer": state_tensors(self._optimizer),
            "average": {} if self._average is None else self._average.weights,
        }
        return {f"{part}/{name}": tensor for part, named in parts.items() for name, tensor in named.items()}

    def facts(self) -> dict[str, Any]:
        """The rest of the state: plain data."""
        return dict(self._scaler.state_dict())

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Put back what `tensors` and `facts` gave."""
        _copy_into(self.network.weights, _part(tensors, "weights"))
        _copy_into(self._learned, _part(tensors, "objective"))
        load_state_tensors(self._optimizer, _part(tensors, "optimizer"))
        self._scaler.load_state_dict(dict(facts))
        if self._average is not None:
            _copy_into(self._average.weights, _part(tensors, "average"))

    def _backward(self, batch: Batch) -> Tensor:
        """Gradients of the batch's mean loss, in `accumulate` parts of this process's share."""
        mine, world = batch.share(self._engine.rank, self._engine.world), self._engine.world
        total = torch.zeros((), device=self._options.device)
        for part in mine.parts(self._options.accumulate):
            loss = self._loss(part)
            weight = len(part) / len(mine)
            # Engines average gradients over processes: weighting by size makes that the mean over the whole batch.
            balance = 1.0 if len(mine) == len(batch) else len(mine) * world / len(batch)
            self._engine.backward(self._scaler.scale(loss * (weight * balance)))
            total += loss.detach() * (weight * balance / world)
        self._engine.average_gradients(self._learned.values())
        return self._engine.total(total)

    def _loss(self, batch: Batch) -> Tensor:
        task = self._job.task
        inputs = tuple(self._placed(t) for t in batch.inputs)
        targets = None if batch.targets is None else batch.targets.to(self._options.device, non_blocking=True)
        goal = task.goal(inputs, targets) if task else targets
        loss = self._objective(self.network(inputs), goal, self._teachers(inputs, batch))
        return loss if self._job.penalty is None else loss + self._job.penalty(self.network.parameters)

    def _placed(self, tensor: Tensor) -> Tensor:
        tensor = tensor.to(self._options.device, non_blocking=True)
        images = self._options.channels_last and tensor.dim() == 4
        return tensor.contiguous(memory_format=torch.channels_last) if images else tensor

    def _clip(self) -> None:
        if self._options.clip:
            self._scaler.unscale_(self._optimizer)
            torch.nn.utils.clip_grad_norm_(self._trained, self._options.clip)

    @torch.no_grad()
    def _finish(self, step: int) -> None:
        if self._job.constraint is not None:
            self._job.constraint(self.network.parameters)
        if self._average is not None:
            self._average.update(self.network.weights, step)


def _learned_by(objective: Any, options: TrainOptions) -> dict[str, Tensor]:
    """Parameters of the objective itself (feature projections), moved to the device."""
    if not isinstance(objective, torch.nn.Module):
        return {}
    return dict(objective.to(options.device).named_parameters())


@torch.no_grad()
def _copy_into(live: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    for name, tensor in live.items():
        tensor.copy_(saved[name])


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix/`, without it."""
    return {name[len(prefix) + 1 :]: t for name, t in tensors.items() if name.startswith(prefix + "/")}
