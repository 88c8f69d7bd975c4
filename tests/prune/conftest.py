"""A small residual network that has something to lose, and data for it."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from tests.analysis.networks import program_of
from torch import Tensor

from edgepress.ir import Program

Batches = list[tuple[tuple[Tensor, ...], Tensor]]


@pytest.fixture(scope="session")
def network() -> Program:
    return program_of("residual")


@pytest.fixture(scope="session")
def batches(network: Program) -> Batches:
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(16, 3, 8, 8, generator=generator) for _ in range(3)]
    return [((x,), network(x).argmax(1)) for x in images]


@pytest.fixture(scope="session")
def loss() -> Callable[[Tensor, Tensor], Tensor]:
    return F.cross_entropy
