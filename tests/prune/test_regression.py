"""Every layer is a matrix times what it reads: rows, weights and values agree."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgepress.analysis.channels import channel_groups
from edgepress.ir import Program, capture
from edgepress.passes.cut_channels import cut_channels
from edgepress.prune import ChannelPlan, PruneOptions, prune
from edgepress.prune.regression import can_refit, can_regress, from_matrix, grouped_rows_of, to_matrix

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_rows_times_weight_are_the_values(data: st.DataObject) -> None:
    dims = data.draw(st.sampled_from([1, 2, 3]))
    transposed = data.draw(st.booleans())
    groups = data.draw(st.sampled_from([1, 2, 4]))
    kernel = data.draw(st.integers(1, 4))
    options = {
        "stride": data.draw(st.integers(1, 3)),
        "dilation": data.draw(st.integers(1, 2)),
        "padding": data.draw(st.integers(0, kernel - 1)),
        "groups": groups,
        "bias": False,
    }
    layer = (TRANSPOSED if transposed else CONVOLUTIONS)[dims](4, 8, kernel, **options)
    x = torch.randn(2, 4, *([9, 8, 7][:dims]))
    program = capture(layer, [x])
    node = next(n for n in program.nodes if "conv" in str(n.target))
    y = program(x)
    rows, wanted = grouped_rows_of(node, x, y, data.draw(st.sampled_from([1, 4, 1000])), data.draw(st.integers(0, 9)))
    matrix = to_matrix(node, layer.weight.detach())
    assert rows.shape[1] > 0
    assert torch.allclose(rows @ matrix.mT, wanted, atol=1e-4)
    assert torch.equal(from_matrix(node, matrix, layer.weight), layer.weight)


def redundant(kind: str) -> Program:
    """Half of the middle channels are mixtures of the others, so that a refit can make up for their loss."""
    torch.manual_seed(0)
    first = {"conv1d": nn.Conv1d(3, 8, 1), "conv3d": nn.Conv3d(3, 8, 1), "transposed": nn.Conv2d(3, 8, 1)}[kind]
    second = {
        "conv1d": nn.Conv1d(8, 5, 3, padding=1),
        "conv3d": nn.Conv3d(8, 5, 3, padding=1),
        "transposed": nn.ConvTranspose2d(8, 5, 4, stride=2, padding=1),
    }[kind]
    for tensor in (first.weight.data, first.bias.data):
        tensor[4:] = 0.3 * tensor[:4] + tensor[:4].roll(1, 0)
    shape = {"conv1d": (2, 3, 12), "conv3d": (2, 3, 5, 6, 4), "transposed": (2, 3, 6, 6)}[kind]
    return capture(nn.Sequential(first, second), [torch.randn(shape)])


@pytest.mark.parametrize("kind", ["conv1d", "conv3d", "transposed"])
def test_layers_of_every_kind_are_refitted(kind: str) -> None:
    program = redundant(kind)
    shape = (32, *program.example_inputs[0].shape[1:])
    inputs = [torch.randn(shape) for _ in range(3)]
    batches = [((x,), program(x)) for x in inputs]
    options = [PruneOptions({"channels": 0.5}, criterion="l2", reconstruct=r) for r in (True, False)]
    x = torch.randn(shape)
    fitted, cut = (
        float((prune(program, o, batches, nn.functional.mse_loss).program(x) - program(x)).std()) for o in options
    )
    assert fitted < 0.1 * float(program(x).std())
    assert fitted < 0.2 * cut


class Depthwise(nn.Module):
    """A depthwise layer whose input changed: its nine weights per channel can make up for a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 1)
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8)

    def forward(self, x: Tensor) -> Tensor:
        return self.depth(self.second(torch.relu(self.first(x))))


def test_depthwise_layers_are_refitted_channel_by_channel() -> None:
    from edgepress.passes.cut_channels import atoms_kept
    from edgepress.prune.reconstruct import reconstruct

    torch.manual_seed(0)
    program = capture(Depthwise(), [torch.randn(2, 3, 8, 8)])
    groups = channel_groups(program)
    group = groups.group("first.weight")
    plan = ChannelPlan({group.name: (0, 1, 2, 4)}, {group.name: group.size})
    smaller = cut_channels(program, plan, groups).program
    # only the depthwise layer may change: what it gains is its own
    inputs = [(torch.randn(32, 3, 8, 8),) for _ in range(3)]
    fitted = reconstruct(program, smaller, groups, atoms_kept(groups, plan.mask(groups)), inputs)
    own = smaller.with_state({name: fitted.state()[name] for name in ("depth.weight", "depth.bias")})
    x = torch.randn(64, 3, 8, 8)
    assert not torch.equal(fitted.state()["depth.weight"], smaller.state()["depth.weight"])
    assert float((fitted(x) - program(x)).square().mean()) < 0.9 * float((smaller(x) - program(x)).square().mean())
    assert own(x).shape == program(x).shape


def test_what_cannot_be_refitted_is_left_alone() -> None:
    program = capture(nn.Conv2d(4, 4, 3, padding="same"), [torch.randn(2, 4, 8, 8)])
    node = next(n for n in program.nodes if "conv" in str(n.target))
    assert not can_refit(node, program.state_names())
    grouped = capture(nn.Conv2d(4, 4, 3, groups=2), [torch.randn(2, 4, 8, 8)])
    node = next(n for n in grouped.nodes if "conv" in str(n.target))
    assert can_refit(node, grouped.state_names())
    assert not can_regress(node, grouped.state_names())
