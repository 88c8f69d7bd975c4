import numpy as np
import pytest
import torch
from tests.analysis.networks import NETWORKS, Function, conv, head, lstm_projected, program_of
from torch import nn

from edgepress.analysis.channel_plan import ChannelPlan
from edgepress.analysis.channels import channel_groups
from edgepress.ir import capture
from edgepress.passes.cut_channels import cut_channels


def sizes(name: str) -> dict[str, int]:
    return {group.name: group.size for group in channel_groups(program_of(name)).groups}


EXPECTED = {
    "plain": {"0.weight": 8, "3.weight": 12},
    "flat": {"0.weight": 8},
    "flat_view": {"conv.weight": 8},
    "residual": {"stem.weight": 8, "inner.weight": 12},
    # three stem channels lie left of the input's six in the padded shortcut, three right of them
    "padded_shortcut": {"stem.weight": 6, "inner.weight": 12, "outer.weight": 6},
    "dense": {"a.weight": 6, "b.weight": 8, "c.weight": 4},
    "chunked": {"stem.weight": 6, "stem.weight#2": 6, "left.weight": 8},
    "gated": {"stem.weight": 6},
    "depthwise": {"0.weight": 8, "4.weight": 6},
    # two groups of six inputs and nine outputs: the same channels of both groups go
    "grouped": {"0.weight": 6, "2.weight": 9},
    # six groups of two: whole groups go
    "many_groups": {"0.weight": 6},
    "squeeze_excite": {"stem.weight": 8, "down.weight": 4},
    "shuffled": {"stem.weight": 6, "grouped.weight": 6},
    "u_net": {"down.weight": 8, "low.weight": 10, "up.weight": 6, "merge.weight": 6},
    "super_resolution": {"0.weight": 16, "2.weight": 6},
    "group_normed": {"0.weight": 6, "3.weight": 6},
    "lstm": {"layer.weight_ih_l0": 10},
    "gru_bidirectional": {"layer.weight_ih_l0": 10},
    "rnn": {"layer.weight_ih_l0": 10},
    # the width of the residual stream, heads, hidden units of the feed-forward part
    "transformer": {"embed.weight": 12, "qkv.weight": 3, "wide.weight": 20},
    "chunked_transformer": {"embed.weight": 12, "qkv.weight": 3, "wide.weight": 20},
    "grouped_query": {"embed.weight": 16, "query.weight": 2, "wide.weight": 20},
    "masked_transformer": {"embed.weight": 12, "layer.self_attn.in_proj_weight": 3, "layer.linear1.weight": 20},
    # the table of biases loses its column with a head
    "windows": {"embed.weight": 12, "qkv.weight": 3, "wide.weight": 20},
    "named_axes": {"embed.weight": 12, "qkv.weight": 3, "wide.weight": 20},
    "normed_tokens": {"wide.weight": 8},
    "volume": {"inner.weight": 4, "up.weight": 3},
    # the two that nobody reads are told apart from the others
    "narrowed": {"stem.weight": 2, "stem.weight#2": 8},
    "instance_normed": {"0.weight": 8, "3.weight": 6},
    "sequence": {"1.weight": 8, "3.weight": 6},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_groups_of_each_family(name: str) -> None:
    assert sizes(name) == EXPECTED[name]


def test_attention_may_lose_width_instead_of_heads() -> None:
    fused = {g.name: g.size for g in channel_groups(program_of("transformer"), "width").groups}
    assert fused == {"embed.weight": 12, "qkv.weight": 4, "wide.weight": 20}
    # chunks of one projection: query and key share a width, the value has its own
    apart = {g.name: g.size for g in channel_groups(program_of("chunked_transformer"), "width").groups}
    assert apart == {"embed.weight": 12, "qkv.weight": 4, "qkv.weight#2": 4, "wide.weight": 20}


def test_rotary_positions_keep_the_width_of_a_head() -> None:
    found = {g.name: g.size for g in channel_groups(program_of("grouped_query"), "width").groups}
    assert found == {"embed.weight": 16, "query.weight": 2, "wide.weight": 20}


def test_members_are_all_that_shrinks_with_a_channel() -> None:
    group = channel_groups(program_of("plain")).group("0.weight")
    norm = {(f"1.{t}", 0) for t in ("weight", "bias", "running_mean", "running_var")}
    assert set(group.members) == {("0.weight", 0), ("0.bias", 0), *norm, ("3.weight", 1)}


def test_a_projected_lstm_needs_more_hidden_units_than_outputs() -> None:
    program = capture(lstm_projected(), [torch.randn(2, 3, 8, 8)])
    hidden, outputs = (channel_groups(program).group(f"layer.weight_{kind}_l0") for kind in ("ih", "hr"))
    assert hidden.least == outputs.size + 1
    assert outputs.least == 1


def test_output_channels_are_refused_with_the_reason() -> None:
    refusals = channel_groups(program_of("plain")).refusals
    assert [(r.node, r.found, r.needed) for r in refusals] == [
        ("linear", "output: is an output of the network", "a layer after it")
    ]


REFUSED = {
    "sort": (lambda m, x: m.head(torch.sort(m.conv(x), 1)[0]), "no rule says how aten.sort.default treats channels"),
    "softmax": (lambda m, x: m.head(torch.softmax(m.conv(x), 1)), "runs along these channels"),
    "select": (lambda m, x: m.head(m.conv(x)[:, 3:4].expand(-1, 8, -1, -1) + m.conv(x)[:, 2, None]), "picks single"),
    "step": (lambda m, x: m.head(torch.cat([m.conv(x)[:, ::2]] * 2, 1)), "takes every 2th channel"),
    "input": (lambda m, x: m.head(m.conv(x) + torch.cat([x, x, x[:, :2]], 1)), "meets a tensor without channels"),
    "torn": (lambda m, x: m.head(m.conv(x).transpose(1, 2).reshape(-1, 8, 8, 8)), ""),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_stays_and_is_named(name: str) -> None:
    forward, reason = REFUSED[name]
    program = capture(Function(forward, conv=conv(3, 8), head=head(8)), [torch.randn(2, 3, 8, 8)])
    found = channel_groups(program)
    if reason:
        assert "conv.weight" not in {g.name for g in found.groups}
        assert any(reason in refusal.found for refusal in found.refusals), found.refusals


def test_shared_weights_couple_every_use() -> None:
    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return m.head(torch.relu(m.again(torch.relu(m.again(m.stem(x))))))

    program = capture(Function(forward, stem=conv(3, 8), again=conv(8, 8), head=head(8)), [torch.randn(2, 3, 8, 8)])
    (group,) = channel_groups(program).groups
    assert {("again.weight", 0), ("again.weight", 1), ("stem.weight", 0)} <= set(group.members)


def test_a_network_without_layers_has_no_groups() -> None:
    found = channel_groups(capture(nn.ReLU(), [torch.randn(2, 3)]))
    assert (found.groups, found.refusals, found.units) == ((), (), 0)


def test_numbers_do_not_depend_on_the_run() -> None:
    one, other = (channel_groups(program_of("u_net")) for _ in range(2))
    assert one.groups == other.groups


def test_narrow_and_flip_keep_what_they_can() -> None:
    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return m.head(torch.narrow(m.conv(x).flip(3), 1, 2, 6))

    program = capture(Function(forward, conv=conv(3, 8), head=head(6)), [torch.randn(2, 3, 8, 8)])
    assert {(g.name, g.size) for g in channel_groups(program).groups} == {("conv.weight", 2), ("conv.weight#2", 6)}


class LastValid(nn.Module):
    """The state of each row's last step, picked by a row of positions that is expanded over the channels."""

    def __init__(self, shared: bool = False) -> None:
        super().__init__()
        self.shared, self.layer, self.head = shared, nn.Linear(6, 10), nn.Linear(10, 3)

    def forward(self, x: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        index = last.reshape(-1, 1, 1).expand(-1, 1, 10)
        index = torch.where(index < 0, index + 5, index)
        picked = torch.gather(self.layer(x), 1, index).squeeze(1)
        return self.head(picked + index.squeeze(1)) if self.shared else self.head(picked)


class Messages(nn.Module):
    """What is sent along edges, summed where it arrives."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(6, 10), nn.Linear(10, 3)

    def forward(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        sent = self.layer(x)
        summed = torch.zeros(2, 4, 10).scatter_add(1, target.unsqueeze(2).expand(-1, -1, 10), sent)
        return self.head(summed)


@pytest.mark.parametrize(
    ("network", "index"), [(LastValid(), torch.tensor([4, -2])), (Messages(), torch.tensor([[0, 1, 2, 3, 3]] * 2))]
)
def test_positions_expanded_over_channels_follow_them(network: nn.Module, index: torch.Tensor) -> None:
    program = capture(network, [torch.randn(2, 5, 6), index], dynamic_batch=False)
    groups = channel_groups(program)
    assert {group.name: group.size for group in groups.groups} == {"layer.weight": 10}
    keep = np.array([False] * 3 + [True] * 7)
    cut = cut_channels(program, ChannelPlan.from_mask(groups, keep), groups).program
    assert cut.state()["head.weight"].shape == (3, 7)
    with torch.no_grad():  # as if the first three channels were never there
        network.layer.weight[:3] = 0
        network.layer.bias[:3] = 0
        x = torch.randn(2, 5, 6)
        torch.testing.assert_close(cut.module()(x, index), network(x, index))


def test_positions_that_are_read_elsewhere_keep_the_channels() -> None:
    program = capture(LastValid(shared=True), [torch.randn(2, 5, 6), torch.tensor([4, 2])], dynamic_batch=False)
    assert channel_groups(program).groups == ()


class Mixture(nn.Module):
    """Kernels mixed for each picture, applied as one convolution in groups."""

    def __init__(self) -> None:
        super().__init__()
        self.route, self.kernels = nn.Linear(4, 3), nn.Parameter(torch.randn(3, 6 * 4 * 9))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kernels = (self.route(x.mean((2, 3))) @ self.kernels).view(-1, 4, 3, 3)
        return nn.functional.conv2d(x.reshape(1, -1, 8, 8), kernels, padding=1, groups=2)


def test_a_kernel_that_is_computed_keeps_its_places() -> None:
    program = capture(Mixture(), [torch.randn(2, 4, 8, 8)], dynamic_batch=False)
    groups = channel_groups(program)
    assert [group.size for group in groups.groups] == [3]  # the mixed kernels themselves, not what lies in them
    cut = cut_channels(program, ChannelPlan.from_mask(groups, np.array([False, True, True])), groups).program
    assert cut.state()["kernels"].shape == (2, 6 * 4 * 9)
    assert cut(torch.randn(2, 4, 8, 8)).shape == (1, 12, 8, 8)


class SplitHeads(nn.Module):
    """Query, key and value as parts of size one of a fused projection, as exporters write `unbind`."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.out = nn.Linear(6, 48), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, _ = x.shape
        q, k, v = (part.squeeze(2) for part in self.project(x).view(n, t, 3, 2, 8).split(1, dim=2))
        weights = (q.transpose(1, 2) @ k.permute(0, 2, 3, 1)).softmax(-1)
        return self.out((weights @ v.transpose(1, 2)).transpose(1, 2).reshape(n, t, 16))


def test_parts_of_size_one() -> None:
    program = capture(SplitHeads(), [torch.randn(2, 5, 6)])
    groups = channel_groups(program)
    assert {group.name: group.size for group in groups.groups} == {"project.weight": 2}
    cut = cut_channels(program, ChannelPlan.from_mask(groups, np.array([False, True])), groups).program
    assert cut.state()["out.weight"].shape == (4, 8)
    assert cut(torch.randn(3, 5, 6)).shape == (3, 5, 4)
