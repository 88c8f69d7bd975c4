"""The task's metric of a network on a data set."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from edgepress.errors import UserError
from edgepress.ir.program import Program
from edgepress.train.samples import Samples
from edgepress.train.tasks import Task, check_judging, check_labels, first


def evaluate(program: Program, data: Samples, task: Task, *, batch_size: int = 256) -> float:
    """The task's metric of `program` on `data`.

    Raises:
        UserError: no targets where the metric needs some, or labels out of range.
    """
    return evaluate_module(program.module(), data, task, batch_size=batch_size)


@torch.no_grad()
def evaluate_module(
    module: Callable[..., Any], data: Samples, task: Task, *, batch_size: int = 256, device: str = "cpu"
) -> float:
    """As `evaluate`, of anything callable."""
    pairs = ((batch, first(module(*batch.inputs))) for batch in _batches(data, batch_size, device))
    return _metric(pairs, data, task, device)


@torch.no_grad()
def evaluate_outputs(outputs: Tensor, data: Samples, task: Task, *, batch_size: int = 256) -> float:
    """As `evaluate`, of outputs (N, ...) that a network once gave for `data`."""
    return _metric(zip(_batches(data, batch_size, "cpu"), outputs.split(batch_size), strict=True), data, task, "cpu")


class _Batch(NamedTuple):
    inputs: tuple[Tensor, ...]
    targets: Tensor | None


def _metric(pairs: Iterable[tuple[_Batch, Tensor]], data: Samples, task: Task, device: str) -> float:
    metric = None
    for (inputs, targets), outputs in pairs:
        truth = task.truth(inputs, targets)
        if truth is None:
            raise UserError(f"cannot measure {task.metric}", found="data without targets", expected="targets",
                            fix="name the targets under `data`")  # fmt: skip
        if metric is None:
            check_judging(task, data.targets)
            metric = task.make_metric(check_labels(task, data.targets, outputs)).to(device)
        scores = task.scores(outputs, inputs[0])
        metric.update(scores, truth.reshape(scores.shape) if truth.numel() == scores.numel() else truth)
    assert metric is not None, "a data set has at least one sample"
    return float(metric.compute())


def _batches(data: Samples, size: int, device: str) -> Iterator[_Batch]:
    for start in range(0, len(data), size):
        rows = slice(start, start + size)
        targets = None if data.targets is None else data.targets[rows].to(device)
        yield _Batch(tuple(t[rows].to(device) for t in data.inputs), targets)
