"""What a network is for: its loss, its metric, and what counts as its prediction.

Metrics come from torchmetrics. `outputs` below is the network's first output.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from edgepress.errors import UserError
from edgepress.train import metrics
from edgepress.train.detection import detection_loss, mean_average_precision
from edgepress.train.metrics import IGNORED, kernel_distance


@dataclass(frozen=True)
class Task:
    """One kind of task.

    Attributes:
        name: key in `TASKS`. metric: its name, with unit where it has one. higher_is_better: direction of the metric.
        criterion: (first output, goal, label smoothing) -> scalar; see `loss`.
        make_metric: number of classes -> torchmetrics metric.
        scores: (outputs, first input) -> what the metric compares with the targets.
        predict: outputs -> one decision per sample (or position): what paired comparisons count.
        class_dim: dimension of `outputs` that counts classes, `None` where targets are no labels.
        from_inputs: the loss compares the outputs with the network's own input, as autoencoders do.
        judged_by_inputs: so does the metric.
    """

    name: str
    metric: str
    higher_is_better: bool
    criterion: Callable[[Tensor, Tensor, float], Tensor]
    make_metric: Callable[[int], Any]
    scores: Callable[[Tensor, Tensor], Tensor]
    predict: Callable[[Tensor], Tensor]
    class_dim: int | None = None
    from_inputs: bool = False
    judged_by_inputs: bool = False

    def goal(self, inputs: tuple[Tensor, ...], targets: Tensor | None) -> Tensor | None:
        """What the loss compares the outputs with."""
        return inputs[0] if self.from_inputs else targets

    def truth(self, inputs: tuple[Tensor, ...], targets: Tensor | None) -> Tensor | None:
        """What the metric compares the scores with."""
        return inputs[0] if self.judged_by_inputs else targets

    def is_better(self, metric: float, than: float | None) -> bool:
        """NaN is never better."""
        if metric != metric:
            return False
        return than is None or (metric > than if self.higher_is_better else metric < than)

    def loss(self, outputs: Any, goal: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Mean loss of the network's first output; a scalar."""
        return self.criterion(first(outputs), goal, label_smoothing)

    def objective(self, label_smoothing: float = 0.0) -> Callable[[Any, Tensor | None, Any], Tensor]:
        """The task's loss in the form that `fit` takes, without a teacher."""

        def alone(outputs: Any, targets: Tensor | None, teacher_outputs: Any) -> Tensor:
            assert targets is not None, "the task's loss needs targets"
            return self.loss(outputs, targets, label_smoothing)

        return alone


def get(name: str, metric: str = "") -> Task:
    """The task of that name, judged by its usual metric or by another that it knows.

    Raises:
        UserError: there is none, or the metric is none of its own.
    """
    if name not in TASKS:
        raise UserError(f"unknown task {name!r}", found=name, expected=", ".join(TASKS), fix="correct `task`")
    task = TASKS[name]
    if metric in ("", task.metric):
        return task
    others = OTHER_METRICS.get(name, {})
    if metric not in others:
        raise UserError(f"task {name} cannot be judged by {metric!r}", found=metric,
                        expected=", ".join((task.metric, *others)), fix="correct `metric`")  # fmt: skip
    return replace(task, metric=metric, make_metric=others[metric])


def first(outputs: Any) -> Tensor:
    """The first output of a network that returns one tensor, or several."""
    return outputs if isinstance(outputs, Tensor) else outputs[0]


def check_labels(task: Task, targets: Tensor | None, outputs: Tensor) -> int:
    """Number of classes, after checking that integer targets are among them; 0 where targets are no labels.

    Raises:
        UserError: labels out of range.
    """
    if task.class_dim is None:
        return 0
    classes = max(int(outputs.shape[task.class_dim]), 2)
    if targets is None or targets.is_floating_point():
        return classes
    counted = targets[targets != IGNORED]
    low, high = (int(counted.min()), int(counted.max())) if counted.numel() else (0, 0)
    if low < 0 or high >= classes:
        raise UserError(
            f"labels are out of range for {task.name}",
            found=f"labels from {low} to {high}",
            expected=f"0 to {classes - 1}, or {IGNORED} for positions to ignore",
            fix="number the classes from 0, or check that data and model belong together",
        )
    return classes


NEEDS_BOTH_CLASSES = ("auc", "f1")


def check_judging(task: Task, targets: Tensor | None) -> None:
    """Samples to be judged by AUC or F1 must hold both classes; those to be trained on need not (all are normal).

    AUC ranks one class against the other, and F1 without positives is 0 / 0: torchmetrics answers 0 to both.

    Raises:
        UserError: labels of one class only where the metric compares two.
    """
    if task.metric not in NEEDS_BOTH_CLASSES or targets is None or task.class_dim is not None:
        return
    present = targets.unique().tolist()
    if len(present) < 2:
        raise UserError(
            f"{task.metric} is not defined on these labels",
            found=f"all {targets.numel()} are {present[0]:g}" if present else "no labels",
            expected="samples of both classes, 0 and 1",
            fix="evaluate on data that holds both, or choose another metric",
        )


# -- losses ------------------------------------------------------------------------------------------------------------


def cross_entropy(outputs: Tensor, goal: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy. outputs (N, C, ...); goal (N, ...) labels or (N, C) probabilities."""
    if goal.is_floating_point():
        return F.cross_entropy(outputs, goal, label_smoothing=smoothing)
    return F.cross_entropy(outputs, goal, ignore_index=IGNORED, label_smoothing=smoothing)


def token_cross_entropy(outputs: Tensor, goal: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy per token. outputs (N, T, V); goal (N, T)."""
    return cross_entropy(outputs.flatten(0, -2), goal.flatten(), smoothing)


def binary_cross_entropy(outputs: Tensor, goal: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean binary cross-entropy on logits. outputs and goal have the same number of elements."""
    wanted = goal.reshape(outputs.shape).to(outputs.dtype)
    return F.binary_cross_entropy_with_logits(outputs, wanted * (1 - smoothing) + 0.5 * smoothing)


def squared_error(outputs: Tensor, goal: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean squared error."""
    return F.mse_loss(outputs, goal.reshape(outputs.shape).to(outputs.dtype))


def distribution_distance(outputs: Tensor, goal: Tensor, smoothing: float = 0.0) -> Tensor:
    """Kernel distance of a batch from real samples: what moment matching networks minimise (Li et al. 2015)."""
    return kernel_distance(outputs, goal)


# -- scores and predictions --------------------------------------------------------------------------------------------


def _as_is(outputs: Tensor, inputs: Tensor) -> Tensor:
    return outputs


def _probability(outputs: Tensor, inputs: Tensor) -> Tensor:
    return outputs.flatten().sigmoid()


def _flat(outputs: Tensor, inputs: Tensor) -> Tensor:
    return outputs.flatten()


def _labels(outputs: Tensor, inputs: Tensor) -> Tensor:
    """(N, C, ...) -> (N, ...)."""
    return outputs.argmax(1)


def _reconstruction_error(outputs: Tensor, inputs: Tensor) -> Tensor:
    """Mean squared error of each sample: large for anomalies."""
    return (outputs - inputs.reshape(outputs.shape)).square().flatten(1).mean(1)


def _argmax_classes(outputs: Tensor) -> Tensor:
    return outputs.argmax(1)


def _argmax_tokens(outputs: Tensor) -> Tensor:
    return outputs.argmax(-1)


def _sign(outputs: Tensor) -> Tensor:
    return (outputs.flatten() > 0).long()


def _identity(outputs: Tensor) -> Tensor:
    return outputs


TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task("classification", "accuracy", True, cross_entropy, metrics.accuracy, _labels, _argmax_classes,
             class_dim=1),
        Task("binary", "accuracy", True, binary_cross_entropy, metrics.binary_accuracy, _probability, _sign),
        Task("segmentation", "mean_iou", True, cross_entropy, metrics.mean_iou, _labels, _argmax_classes, class_dim=1),
        Task("detection", "map_50", True, detection_loss, lambda _: mean_average_precision(), _as_is, _identity),
        Task("generation", "kernel_distance", False, distribution_distance, metrics.kernel_distance_metric, _as_is,
             _identity),
        Task("language", "perplexity", False, token_cross_entropy, metrics.perplexity, _as_is, _argmax_tokens,
             class_dim=-1),
        Task("regression", "mean_squared_error", False, squared_error, metrics.mean_squared_error, _flat, _identity),
        Task("reconstruction", "mean_squared_error", False, squared_error, metrics.mean_squared_error, _flat, _identity,
             from_inputs=True, judged_by_inputs=True),
        Task("anomaly", "auc", True, squared_error, metrics.area_under_curve, _reconstruction_error, _identity,
             from_inputs=True),
    )
}  # fmt: skip
OTHER_METRICS: Mapping[str, Mapping[str, Callable[[int], Any]]] = {
    "classification": {"f1": metrics.macro_f1},
    "binary": {"f1": metrics.binary_f1, "auc": metrics.area_under_curve},
}
"""Task -> metrics that can take the place of its usual one; they read the same scores."""
