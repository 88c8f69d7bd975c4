"""Channels are judged without labels by how far the outputs move."""

import pytest
import torch
from torch import nn

from edgepress.analysis.channels import channel_groups
from edgepress.ir import Program, capture
from edgepress.prune import PruneOptions, prune
from edgepress.prune.evidence import Evidence, unit_scores
from edgepress.prune.unlabelled import without_labels


class TwoHeads(nn.Module):
    """Two float outputs, one a thousand times the other, and one of integers."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.one, self.other = nn.Linear(6, 12), nn.Linear(12, 3), nn.Linear(12, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = torch.relu(self.body(x))
        return self.one(y), 1000 * self.other(y), self.one(y).argmax(1)


def two_heads() -> Program:
    torch.manual_seed(0)
    return capture(TwoHeads(), [torch.randn(4, 6)])


def test_every_output_counts_alike() -> None:
    program, inputs = two_heads(), [(torch.randn(32, 6),) for _ in range(2)]
    batches, loss = without_labels(program, inputs)
    one, other, labels = program(*inputs[0])
    undisturbed = loss((one, other, labels), batches[0][1])
    assert undisturbed.item() == pytest.approx(1, abs=0.3)  # the variance of the disturbance
    for moved in ((one + one.std(), other, labels), (one, other + other.std(), labels)):
        assert loss(moved, batches[0][1]) > undisturbed + 0.1


def test_a_channel_that_moves_nothing_scores_least() -> None:
    program = two_heads()
    state = program.state()
    silent = {name: state[name].detach().clone() for name in ("one.weight", "other.weight")}
    for weight in silent.values():
        weight[:, 7] = 0
    program = program.with_state(silent, note="silenced")
    inputs = [(torch.randn(64, 6),)]
    batches, loss = without_labels(program, inputs)
    for criterion in ("taylor", "fisher", "activation_taylor", "activation_fisher"):
        scores = unit_scores(criterion, Evidence(program, channel_groups(program), batches, loss))
        assert int(scores.argmin()) == 7, criterion


def test_the_seed_decides() -> None:
    program, inputs = two_heads(), [(torch.randn(8, 6),)]
    first, again, other = (without_labels(program, inputs, seed)[0][0][1] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_pruned_by_it() -> None:
    program, inputs = two_heads(), [(torch.randn(64, 6),)]
    result = prune(program, PruneOptions({"macs": 0.3}), *without_labels(program, inputs))
    assert result.facts["macs_after"] <= 0.7 * result.facts["macs_before"]
