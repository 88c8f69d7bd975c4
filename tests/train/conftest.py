"""Small networks and data that training can learn in a second."""

import pytest
import torch
from torch import nn

from edgepress.data import Dataset
from edgepress.ir import Program, capture


class Small(nn.Module):
    """Convolution, batch norm, dropout, linear head: everything whose state a resumed run must bring back."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(width, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(image)))
        return self.head(self.drop(x.mean((2, 3))))


def stripes(n: int, seed: int) -> Dataset:
    """Images 8x8 of three textures (rows, columns, checkers) under noise, and which one it is."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (n,), generator=generator)
    y, x = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    patterns = torch.stack([(y % 2).float(), (x % 2).float(), ((x + y) % 2).float()])
    images = patterns[labels][:, None] + 0.5 * torch.randn(n, 1, 8, 8, generator=generator)
    return Dataset((images,), labels, ("rows", "columns", "checkers"), "stripes")


@pytest.fixture(scope="session")
def small() -> Program:
    torch.manual_seed(0)
    return capture(Small(), [torch.randn(2, 1, 8, 8)], input_names=["image"])


@pytest.fixture(scope="session")
def train_data() -> Dataset:
    return stripes(192, seed=1)


@pytest.fixture(scope="session")
def validation_data() -> Dataset:
    return stripes(96, seed=2)
