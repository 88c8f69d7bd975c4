"""The set loss and mean average precision against cases whose answers are known by hand."""

import pytest
import torch

from edgepress.errors import UserError
from edgepress.train.detection import detection_loss, generalized_iou, iou, mean_average_precision

BOX, OTHER = [0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]


def answer(box: list[float], label: int, logit: float) -> list[float]:
    return [*box, *(logit if c == label else -20.0 for c in range(2))]


def target(*objects: tuple[int, list[float]]) -> torch.Tensor:
    rows = [[float(label), *box] for label, box in objects]
    return torch.tensor([rows + [[-1.0] * 5] * (3 - len(rows))])


def test_overlap_of_known_boxes() -> None:
    boxes = torch.tensor([BOX, OTHER, [0.25, 0.0, 0.75, 0.5]])
    # The third covers half of the first: 1/3. The two corners do not meet: their hull is twice their union.
    assert iou(boxes[:1], boxes).tolist() == [pytest.approx([1.0, 0.0, 1 / 3])]
    assert generalized_iou(boxes[:1], boxes).tolist() == [pytest.approx([1.0, -0.5, 1 / 3])]


def test_right_answers_cost_less_than_wrong_ones() -> None:
    goal = target((0, BOX), (1, OTHER))
    right = torch.tensor([[answer(BOX, 0, 8.0), answer(OTHER, 1, 8.0), answer(BOX, 0, -20.0)]])
    swapped = torch.tensor([[answer(BOX, 1, 8.0), answer(OTHER, 0, 8.0), answer(BOX, 0, -20.0)]])
    twice = torch.tensor([[answer(BOX, 0, 8.0), answer(OTHER, 1, 8.0), answer(BOX, 0, 8.0)]])
    costs = [float(detection_loss(outputs, goal)) for outputs in (right, swapped, twice)]
    assert costs[0] < 0.01 < costs[1]
    assert costs[0] < costs[2], "a second answer for the same object costs"


def test_the_order_of_answers_does_not_matter() -> None:
    goal = target((0, BOX), (1, OTHER))
    outputs = torch.randn(1, 6, 6, generator=torch.Generator().manual_seed(0))
    shuffled = outputs[:, torch.tensor([3, 0, 5, 1, 4, 2])]
    assert float(detection_loss(outputs, goal)) == pytest.approx(float(detection_loss(shuffled, goal)), rel=1e-5)


def test_images_without_objects_train_too() -> None:
    outputs = torch.zeros(1, 4, 6, requires_grad=True)
    detection_loss(outputs, target()).backward()
    assert outputs.grad is not None and bool((outputs.grad[..., 4:] > 0).all()), "every score is pushed down"


def test_gradient_descent_finds_the_objects() -> None:
    torch.manual_seed(0)
    outputs = torch.rand(1, 4, 6).requires_grad_()
    goal = target((0, BOX), (1, OTHER))
    optimizer = torch.optim.Adam([outputs], lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        detection_loss(outputs, goal).backward()
        optimizer.step()
    assert average(outputs.detach(), goal) == pytest.approx(1.0)


def average(outputs: torch.Tensor, goal: torch.Tensor) -> float:
    metric = mean_average_precision()
    metric.update(outputs, goal)
    return float(metric.compute())


def test_average_precision_by_hand() -> None:
    goal = target((0, BOX), (0, OTHER))
    # By falling score: right, wrong (taken), right. Precision 1 at recall 1/2, then 2/3 at recall 1.
    outputs = torch.tensor([[answer(BOX, 0, 3.0), answer(BOX, 0, 2.0), answer(OTHER, 0, 1.0)]])
    assert average(outputs, goal) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_a_class_that_is_missed_counts_as_zero() -> None:
    outputs = torch.tensor([[answer(BOX, 0, 3.0)]])
    assert average(outputs, target((0, BOX), (1, OTHER))) == pytest.approx(0.5)


def test_nothing_to_find_is_not_a_perfect_score() -> None:
    assert torch.isnan(torch.tensor(average(torch.zeros(1, 2, 6), target())))


@pytest.mark.parametrize("outputs, goal", [((1, 6), (1, 3, 5)), ((1, 4, 4), (1, 3, 5)), ((1, 4, 6), (1, 3))])
def test_other_shapes_are_refused(outputs: tuple[int, ...], goal: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="not those of a detector"):
        detection_loss(torch.zeros(outputs), torch.zeros(goal))
