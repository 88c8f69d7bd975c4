"""Parts of `forward` under no_grad and autocast become nodes like all others."""

import pytest
import torch
from torch import Tensor, nn

from edgepress.analysis.channels import channel_groups
from edgepress.ir import capture
from edgepress.ir.regions import AUTOCAST, GRAD


class Regions(nn.Module):
    """A gate without gradients, and a branch where autocast is off."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.head = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.wide(x)
        with torch.no_grad():
            gate = torch.sigmoid(y) * 2
            with torch.autocast("cpu", enabled=False):
                gate, low = gate + 1, gate.amin(1)
        with torch.autocast("cuda", enabled=False):
            y = torch.relu(y.float()) * gate
        return self.head(y), low


class Faster(nn.Module):
    """Autocast that is on: it computes in another type, here inside a region without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.head = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            y = self.wide(x)
        return self.head(y.float())


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, 8, generator=torch.Generator().manual_seed(0))


def test_nothing_opaque_is_left_and_nothing_else_changes(x: Tensor) -> None:
    network = Regions().eval()
    program = capture(network, [x])
    assert not {n.target for n in program.graph.nodes} & {AUTOCAST, GRAD}
    assert not [n for n in program.graph.nodes if n.op == "get_attr"]
    torch.testing.assert_close(program(x), network(x), rtol=0, atol=0)
    (group,) = channel_groups(program).groups
    assert group.name == "wide.weight" and group.size == 16


def test_no_gradient_passes_where_none_passed(x: Tensor) -> None:
    network = Regions().eval()
    program = capture(network, [x])
    expected, found = x.clone().requires_grad_(), x.clone().requires_grad_()
    network(expected)[0].sum().backward()
    program.exported.module()(found)[0].sum().backward()
    assert found.grad is not None
    torch.testing.assert_close(found.grad, expected.grad)


def test_a_region_of_another_type_stays(x: Tensor) -> None:
    network = Faster().eval()
    program = capture(network, [x])
    assert GRAD in {n.target for n in program.graph.nodes}
    torch.testing.assert_close(program(x), network(x), rtol=0, atol=0)
