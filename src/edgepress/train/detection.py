"""Detection: the loss that matches predictions to objects one to one, and mean average precision.

Outputs (N, A, 4 + C): corners x1, y1, x2, y2 as shares of the image, then one logit per class. Targets (N, M, 5): class
(negative for empty slots) and corners. Because each object is matched to one prediction, the network learns to answer
once per object and nothing has to be suppressed afterwards.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from edgepress.errors import UserError

COST_CLASS, COST_CORNERS, COST_OVERLAP = 2.0, 5.0, 2.0  # Carion et al. 2020, appendix A.4
ALPHA, GAMMA = 0.25, 2.0  # Lin et al. 2017, section 5.1
OVERLAP, LEAST_SCORE, MOST_BOXES = 0.5, 0.01, 100


def detection_loss(outputs: Tensor, goal: Tensor, smoothing: float = 0.0) -> Tensor:
    """Set loss (Carion et al. 2020, eqs. 1 and 2) with focal classification: scalar per object.

    Raises:
        UserError: outputs or targets of another shape.
    """
    _check_shapes(outputs, goal)
    boxes, logits = outputs[..., :4], outputs[..., 4:]
    wanted = torch.zeros_like(logits)
    picked_boxes, true_boxes = [], []
    for i in range(len(outputs)):
        objects = goal[i][goal[i][:, 0] >= 0]
        chosen, which = _match(boxes[i].detach(), logits[i].detach(), objects)
        wanted[i, chosen, objects[which, 0].long()] = 1.0
        picked_boxes.append(boxes[i, chosen])
        true_boxes.append(objects[which, 1:])
    picked, true = torch.cat(picked_boxes), torch.cat(true_boxes)
    count = max(len(true), 1)
    corners = (picked - true).abs().sum()
    overlap = (1 - generalized_iou(picked, true).diagonal()).sum()
    classes = _focal(logits, wanted * (1 - smoothing))
    return (COST_CLASS * classes + COST_CORNERS * corners + COST_OVERLAP * overlap) / count


def generalized_iou(first: Tensor, second: Tensor) -> Tensor:
    """Pairwise (A, B) of corners (A, 4) and (B, 4); Rezatofighi et al. 2019, algorithm 1. Within -1..1."""
    shared, joined = _shared_and_joined(first, second)
    low = torch.minimum(first[:, None, :2], second[None, :, :2])
    high = torch.maximum(first[:, None, 2:], second[None, :, 2:])
    hull = (high - low).clamp(min=0).prod(2)
    return shared / joined.clamp(min=1e-9) - (hull - joined) / hull.clamp(min=1e-9)


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union, pairwise (A, B)."""
    shared, joined = _shared_and_joined(first, second)
    return shared / joined.clamp(min=1e-9)


def _shared_and_joined(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    low = torch.maximum(first[:, None, :2], second[None, :, :2])
    high = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(2)
    return shared, _area(first)[:, None] + _area(second)[None] - shared


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)


def _match(boxes: Tensor, logits: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of predictions and of their objects, at the least total cost."""
    from scipy.optimize import linear_sum_assignment

    scores = logits.sigmoid()[:, objects[:, 0].long()]
    corners = torch.cdist(boxes, objects[:, 1:], p=1)
    cost = COST_CORNERS * corners - COST_CLASS * scores - COST_OVERLAP * generalized_iou(boxes, objects[:, 1:])
    # A network that diverged gives NaN: its loss says so, the assignment must not fail first.
    rows, columns = linear_sum_assignment(cost.nan_to_num(0.0, 1e6, -1e6).cpu().numpy())
    return torch.from_numpy(rows).to(boxes.device), torch.from_numpy(columns).to(boxes.device)


def _focal(logits: Tensor, wanted: Tensor) -> Tensor:
    """Sum of the focal loss (Lin et al. 2017, eq. 5)."""
    p = logits.sigmoid()
    right = torch.where(wanted > 0, p, 1 - p)
    weight = torch.where(wanted > 0, ALPHA, 1 - ALPHA)
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return (weight * (1 - right) ** GAMMA * entropy).sum()


def _check_shapes(outputs: Tensor, goal: Tensor) -> None:
    if outputs.dim() == 3 and outputs.shape[2] > 4 and goal.dim() == 3 and goal.shape[2] == 5:
        return
    raise UserError(
        "outputs or targets are not those of a detector",
        found=f"outputs {list(outputs.shape)}, targets {list(goal.shape)}",
        expected="outputs (N, boxes, 4 + classes), targets (N, objects, 5)",
        fix="let the network join boxes and class logits into one output, or correct `task`",
    )


def mean_average_precision() -> Any:
    """A torchmetrics metric: mean over classes of the area under precision over recall, at an overlap of one half.

    Everingham et al. 2010 with all points (as from VOC 2010 on). torchmetrics' own needs torchvision and pycocotools.
    """
    from torchmetrics import Metric

    class MeanAveragePrecision(Metric):
        scores: list[Tensor]
        truths: list[Tensor]

        def __init__(self) -> None:
            super().__init__()
            self.add_state("scores", default=[], dist_reduce_fx=None)
            self.add_state("truths", default=[], dist_reduce_fx=None)

        def update(self, outputs: Tensor, targets: Tensor) -> None:
            _check_shapes(outputs, targets)
            self.scores.extend(outputs.detach().cpu().unbind())
            self.truths.extend(targets.cpu().unbind())

        def compute(self) -> Tensor:
            labels = torch.cat([t[:, 0] for t in self.truths])
            present = [int(c) for c in labels[labels >= 0].unique()]
            precisions = [average_precision(self.scores, self.truths, c) for c in present]
            return torch.tensor(precisions).mean() if precisions else torch.tensor(float("nan"))

    return MeanAveragePrecision()


def average_precision(outputs: list[Tensor], targets: list[Tensor], label: int) -> float:
    """Of one class over images: `outputs` (A, 4 + C) each, `targets` (M, 5) each; at least one object of that class."""
    answers = []  # (score, whether it is right) of every prediction
    for predicted, truth in zip(outputs, targets, strict=True):
        answers += _judge(predicted, truth[truth[:, 0] == label, 1:], label)
    objects = sum(int((truth[:, 0] == label).sum()) for truth in targets)
    right = torch.tensor([hit for _, hit in sorted(answers, key=lambda a: -a[0])], dtype=torch.float32)
    found = right.cumsum(0)
    precision = found / torch.arange(1, len(right) + 1)
    # The best precision at this recall or a higher one.
    envelope = precision.flip(0).cummax(0).values.flip(0) if len(right) else precision
    return float((envelope * right).sum() / objects)


def _judge(predicted: Tensor, objects: Tensor, label: int) -> list[tuple[float, bool]]:
    """By falling score: a prediction is right if the object it covers best is covered by half and not yet taken."""
    scores = predicted[:, 4 + label].sigmoid()
    order = scores.argsort(descending=True)[:MOST_BOXES]
    order = order[scores[order] > LEAST_SCORE]
    overlaps = iou(predicted[order, :4], objects)
    taken: set[int] = set()
    answers = []
    for score, row in zip(scores[order].tolist(), overlaps.tolist(), strict=True):
        best = max(range(len(row)), key=row.__getitem__, default=-1)
        hit = best >= 0 and row[best] >= OVERLAP and best not in taken
        taken |= {best} if hit else set()
        answers.append((score, hit))
    return answers
