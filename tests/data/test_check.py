"""Data that do not fit a network are named before anything expensive starts."""

import dataclasses

import pytest
import torch
from torch import nn

from edgepress.data import Dataset, check_fits
from edgepress.errors import UserError
from edgepress.ir import Program, capture


@pytest.fixture(scope="module")
def network() -> Program:
    return capture(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), [torch.randn(2, 3, 4)], input_names=["x"])


GOOD = Dataset((torch.randn(5, 3, 4),), torch.tensor([0, 1, 2, 0, 1]), source="d")


def test_fitting_data_pass(network: Program) -> None:
    check_fits(GOOD, network)
    check_fits(GOOD.unlabelled(), network)


@pytest.mark.parametrize(
    ("inputs", "found"),
    [
        ((torch.randn(5, 4, 3),), "[4, 3]"),
        ((torch.randn(5, 3),), "[3]"),
        ((torch.randn(5, 3, 4), torch.randn(5, 1)), "2 inputs"),
        ((torch.zeros(5, 3, 4, dtype=torch.int64),), "int64"),
    ],
)
def test_wrong_inputs(network: Program, inputs: tuple[torch.Tensor, ...], found: str) -> None:
    with pytest.raises(UserError, match="does not fit") as caught:
        check_fits(dataclasses.replace(GOOD, inputs=inputs), network)
    assert found in caught.value.found


def test_labels_out_of_range(network: Program) -> None:
    with pytest.raises(UserError, match="out of range") as caught:
        check_fits(dataclasses.replace(GOOD, targets=torch.tensor([1, 2, 3, 1, 2])), network)
    assert caught.value.found == "labels from 1 to 3"
