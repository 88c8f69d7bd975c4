"""Small networks, captured once per session."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edgepress.ir import Program, capture
from edgepress.targets.capability import Capability, load_capability


class Apply(nn.Module):
    """A function of one tensor as a network."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Residual(nn.Module):
    """Convolution with batch norm, a residual sum, a gate, pooling, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.inner = nn.Conv2d(8, 12, 3, padding=1)
        self.outer = nn.Conv2d(12, 8, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(image)))
        x = torch.relu(x + self.outer(torch.relu(self.inner(x))))
        return self.head(self.drop(self.pool(x).mean((2, 3))))


class Mixed(nn.Module):
    """A layer norm between two linear layers, and a sum that has no integer inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.norm = nn.LayerNorm(6)
        self.second = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.first(x))
        return self.norm(y + self.second(y))


@pytest.fixture(scope="session")
def residual() -> Program:
    torch.manual_seed(0)
    net = Residual()
    with torch.no_grad():  # statistics that folding has to get right
        net.norm.running_mean.uniform_(-0.5, 0.5)
        net.norm.running_var.uniform_(0.5, 2.0)
        net.norm.weight.uniform_(0.5, 2.0)
        net.norm.bias.uniform_(-0.5, 0.5)
    return capture(net, [torch.randn(2, 3, 8, 8)], input_names=["image"], output_names=["logits"])


@pytest.fixture(scope="session")
def mixed() -> Program:
    torch.manual_seed(0)
    return capture(Mixed(), [torch.randn(2, 6)], input_names=["x"])


@pytest.fixture(scope="session")
def images() -> torch.Tensor:
    return torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def x86() -> Capability:
    return load_capability("onnxruntime-x86")
