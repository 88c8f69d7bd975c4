import torch
from torch import nn

from edgepress.analysis.links import find_links
from edgepress.ir import Program, capture
from edgepress.passes.fold_batchnorm import fold_batchnorm


class Chain(nn.Module):
    """A depthwise separable stack with a pooled head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.point = nn.Conv2d(8, 6, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.depthwise(torch.relu(self.first(x))))
        return self.head(torch.relu(self.point(x)).mean((2, 3)))


def chain() -> Program:
    torch.manual_seed(0)
    return capture(Chain(), [torch.randn(2, 3, 8, 8)])


def pairs(program: Program) -> dict[str, tuple[str, ...]]:
    links, _ = find_links(program)
    names = program.state_names()
    return {names[x.producer.args[1].name]: tuple(names[c.args[1].name] for c in x.consumers) for x in links}


def test_layers_are_linked_through_activations_and_pooling() -> None:
    assert pairs(chain()) == {
        "first.weight": ("depthwise.weight",),
        "depthwise.weight": ("point.weight",),
        "point.weight": ("head.weight",),
    }


def test_what_stands_in_the_way_is_named(residual: Program) -> None:
    links, refusals = find_links(fold_batchnorm(residual).program)
    assert [x.producer.name for x in links] == ["conv2d_1"]
    found = {r.node: r.found for r in refusals}
    assert "add" in found["conv2d"] and "output" in found["linear"]


class Gate(nn.Module):
    def __init__(self, function: nn.Module) -> None:
        super().__init__()
        self.first, self.function, self.second = nn.Linear(4, 4), function, nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.function(self.first(x)))


def test_functions_that_mind_a_scale_are_refused() -> None:
    for function, links in ((nn.ReLU(), 1), (nn.LeakyReLU(0.2), 1), (nn.GELU(), 0), (nn.ReLU6(), 0), (nn.Sigmoid(), 0)):
        assert len(find_links(capture(Gate(function), [torch.randn(2, 4)]))[0]) == links, function


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(torch.relu(self.two(torch.relu(self.one(x)))))


def test_shared_weights_are_refused() -> None:
    links, refusals = find_links(capture(Shared(), [torch.randn(2, 4)]))
    assert not links and all(r.found for r in refusals)
