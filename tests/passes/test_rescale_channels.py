import pytest
import torch
from torch import nn

from edgepress.analysis.links import find_links
from edgepress.ir import capture
from edgepress.passes.rescale_channels import Rescale, input_reach, rescale_channels, weight_name


class Grouped(nn.Module):
    """Layer norm, a linear layer, a grouped and a depthwise convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mix, self.last = nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.first, self.second = nn.Conv1d(8, 12, 3), nn.Conv1d(12, 6, 3, groups=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.mix(self.norm(x)))
        return self.last(x).sum() + self.second(torch.relu(self.first(x.transpose(1, 2)))).sum((1, 2))


def test_outputs_stay_and_weights_move() -> None:
    torch.manual_seed(0)
    program = capture(Grouped(), [torch.randn(2, 9, 8)])
    links, _ = find_links(program)
    assert sorted(link.producer.name for link in links) == ["conv1d", "layer_norm"]
    channels = [len(program.state()[weight_name(program, link.producer)]) for link in links]
    rescales = [Rescale(link, torch.rand(n) + 0.1) for link, n in zip(links, channels, strict=True)]
    result = rescale_channels(program, rescales)
    x = torch.randn(4, 9, 8)
    assert result.changed and torch.allclose(program(x), result.program(x), rtol=1e-4, atol=1e-4)
    for name in ("norm.weight", "mix.weight", "first.weight", "second.weight"):
        assert not torch.equal(program.state()[name], result.program.state()[name]), name
    assert torch.equal(program.state()["second.bias"], result.program.state()["second.bias"])


def test_reach_is_per_input_channel_of_a_grouped_layer() -> None:
    program = capture(nn.Conv1d(6, 4, 1, groups=2), [torch.randn(2, 6, 5)])
    weight = torch.arange(12.0).reshape(4, 3, 1)
    assert input_reach(program.nodes[-1], weight).tolist() == [3, 4, 5, 9, 10, 11]


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_factors_must_be_positive(bad: float) -> None:
    program = capture(nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3)), [torch.randn(2, 3)])
    link = find_links(program)[0][0]
    with pytest.raises(ValueError, match="positive"):
        rescale_channels(program, [Rescale(link, torch.tensor([1.0, bad, 1.0]))])


def test_nothing_to_move_changes_nothing() -> None:
    program = capture(nn.Linear(3, 3), [torch.randn(2, 3)])
    assert not rescale_channels(program, []).changed
