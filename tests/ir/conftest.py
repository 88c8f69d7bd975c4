"""Small networks, captured once per session."""

import pytest
import torch
from torch import nn

from edgepress.ir import Program, capture


class Residual(nn.Module):
    """Convolution, batch norm, a residual addition, pooling and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.inner = nn.Conv2d(8, 12, 3, padding=1)
        self.outer = nn.Conv2d(12, 8, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(image)))
        x = torch.relu(x + self.outer(torch.relu(self.inner(x))))
        return self.head(self.drop(x.mean((2, 3))))


@pytest.fixture(scope="session")
def residual() -> Program:
    torch.manual_seed(0)
    return capture(Residual(), [torch.randn(2, 1, 8, 8)], input_names=["image"], note="made")
