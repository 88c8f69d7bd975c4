"""The task's metric of a network on a data set."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from edgepress.errors import UserError
from edgepress.ir.program import Program
from edgepress.train.samples import Samples
from edgepress.train.tasks import Task, check_labels, first


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
    metric = None
    for inputs, targets in _batches(data, batch_size, device):
        outputs = first(module(*inputs))
        truth = task.truth(inputs, targets)
        if truth is None:
            raise UserError(f"cannot measure {task.metric}", found="data without targets", expected="targets",
                            fix="name the targets under `data`")  # fmt: skip
        if metric is None:
            metric = task.make_metric(check_labels(task, data.targets, outputs)).to(device)
        scores = task.scores(outputs, inputs[0])
        metric.update(scores, truth.reshape(scores.shape) if truth.numel() == scores.numel() else truth)
    assert metric is not None, "a data set has at least one sample"
    return float(metric.compute())


def _batches(data: Samples, size: int, device: str) -> Iterator[tuple[tuple[Tensor, ...], Tensor | None]]:
    for start in range(0, len(data), size):
        rows = slice(start, start + size)
        targets = None if data.targets is None else data.targets[rows].to(device)
        yield tuple(t[rows].to(device) for t in data.inputs), targets
