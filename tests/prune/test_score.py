import math

import pytest
import torch

from edgepress.prune import score


def test_weight_criteria() -> None:
    weight, gradient = torch.tensor([[1.0, -2.0], [3.0, 0.0]]), torch.tensor([[2.0, 1.0], [-1.0, 5.0]])
    assert score.l1(weight).tolist() == [[1, 2], [3, 0]]
    assert score.l2(weight).tolist() == [[1, 4], [9, 0]]
    assert score.taylor(weight, gradient).tolist() == [[2, 2], [3, 0]]
    assert score.fisher(weight, gradient.square()).tolist() == [[2, 2], [4.5, 0]]


def test_lamp_divides_by_the_weights_that_are_not_smaller() -> None:
    found = score.lamp(torch.tensor([[3.0, 1.0], [-2.0, 0.5]]))
    assert found.flatten().tolist() == pytest.approx([1.0, 1 / 14, 4 / 13, 0.25 / 14.25])


def test_fpgm_is_lowest_for_the_filter_in_the_middle() -> None:
    weight = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    assert score.fpgm(weight, 0).tolist() == [3, 2, 3]
    assert score.fpgm(weight.T, 1).tolist() == [3, 2, 3]


def test_wanda_weighs_by_the_input() -> None:
    found = score.wanda(torch.tensor([[1.0, -1.0]]), torch.tensor([2.0, 5.0]), 1)
    assert found.tolist() == [[2, 5]]


def test_activation_criteria() -> None:
    effects = torch.tensor([[1.0, -2.0], [-1.0, 4.0]])
    assert score.activation_taylor(effects).tolist() == [1, 3]
    assert score.activation_fisher(effects).tolist() == [0.5, 5]
    assert math.isclose(float(score.activation_fisher(effects)[1]), (4 + 16) / 4)
