from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgepress.analysis.channels import channel_groups
from edgepress.analysis.costs import total_macs
from edgepress.errors import UserError
from edgepress.ir import Program, capture
from edgepress.prune import PruneOptions, make_plan, prune
from edgepress.prune.evidence import Evidence, unit_scores
from edgepress.prune.options import CRITERIA

Batches = list[tuple[tuple[Tensor, ...], Tensor]]
Loss = Callable[[Tensor, Tensor], Tensor]


@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion_meets_the_budget(network: Program, batches: Batches, loss: Loss, criterion: str) -> None:
    options = PruneOptions({"macs": 0.5}, criterion=criterion, reconstruct=False)  # type: ignore[arg-type]
    result = prune(network, options, batches, loss)
    assert result.changed
    assert 0.25 * total_macs(network) < total_macs(result.program) <= 0.5 * total_macs(network)
    assert result.facts["macs_after"] == total_macs(result.program)
    assert result.facts["channels_before"] - result.facts["channels_after"] == result.plan.removed
    assert result.program(torch.randn(4, 3, 8, 8)).shape == (4, 5)
    assert [r.node for r in result.refusals] == ["linear"]


@pytest.mark.parametrize("allocation", ["global", "uniform", "sensitivity"])
@pytest.mark.parametrize("cost", ["macs", "params", "bytes", "channels"])
def test_budgets_and_allocations(network: Program, batches: Batches, loss: Loss, allocation: str, cost: str) -> None:
    options = PruneOptions({cost: 0.4}, criterion="activation_taylor", allocation=allocation, reconstruct=False)  # type: ignore[arg-type]
    facts = prune(network, options, batches, loss).facts
    assert facts[f"{cost}_after"] <= 0.6 * facts[f"{cost}_before"]


def test_iterations_end_at_the_same_budget(network: Program, batches: Batches, loss: Loss) -> None:
    result = prune(network, PruneOptions({"macs": 0.6}, iterations=3), batches, loss)
    assert result.facts["macs_after"] <= 0.4 * result.facts["macs_before"]


def test_rounding_and_minimum(network: Program, batches: Batches, loss: Loss) -> None:
    plan = make_plan(network, PruneOptions({"macs": 0.4}, criterion="l2", round_to=4), [], loss)
    assert plan.removed
    assert all(len(kept) % 4 == 0 for kept in plan.kept.values())
    plan = make_plan(network, PruneOptions({"macs": 0.3}, criterion="l2", minimum=5), [], loss)
    assert all(len(kept) >= 5 for kept in plan.kept.values())


def test_the_same_request_gives_the_same_network(network: Program, batches: Batches, loss: Loss) -> None:
    one, other = (prune(network, PruneOptions({"macs": 0.4}), batches, loss).program for _ in range(2))
    assert one.digest() == other.digest()


def test_ignored_groups_stay(network: Program, loss: Loss) -> None:
    plan = make_plan(network, PruneOptions({"macs": 0.3}, criterion="l2", ignore=("^stem",)), [], loss)
    assert set(plan.kept) == {"inner.weight"}


def test_a_budget_out_of_reach_says_how_far_one_can_go(network: Program, loss: Loss) -> None:
    with pytest.raises(UserError, match="out of reach") as caught:
        make_plan(network, PruneOptions({"macs": 0.9}, criterion="l2", ignore=("^stem",), minimum=6), [], loss)
    assert "can go" in caught.value.found


def test_nothing_to_remove_changes_nothing(network: Program, batches: Batches, loss: Loss) -> None:
    result = prune(network, PruneOptions({"macs": 0.0}), batches, loss)
    assert (result.changed, result.program) == (False, network)


@pytest.mark.parametrize(
    ("field", "value"),
    [("reduce", {"macs": 1.5}), ("reduce", {"watts": 0.5}), ("criterion", "best"), ("round_to", 0), ("iterations", 0)],
)
def test_bad_options_are_named(field: str, value: object) -> None:
    with pytest.raises(UserError, match=field):
        PruneOptions(**{field: value})  # type: ignore[arg-type]


class Redundant(nn.Module):
    """The last four channels are mixtures of the first four."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 5, 3, padding=1)
        self.wide.weight.data[4:] = 0.3 * self.wide.weight.data[:4] + self.wide.weight.data[:4].roll(1, 0)
        self.wide.bias.data[4:] = 0.3 * self.wide.bias.data[:4] + self.wide.bias.data[:4].roll(1, 0)

    def forward(self, x: Tensor) -> Tensor:
        return self.narrow(self.wide(x)).mean((2, 3))


def test_reconstruction_finds_what_redundant_channels_knew(loss: Loss) -> None:
    torch.manual_seed(0)
    program = capture(Redundant(), [torch.randn(2, 3, 8, 8)])
    images = [torch.randn(32, 3, 8, 8) for _ in range(4)]
    batches = [((x,), torch.randint(5, (32,))) for x in images]
    options = {r: PruneOptions({"channels": 0.6}, criterion="surgeon", reconstruct=r) for r in (True, False)}
    refitted, cut = (prune(program, options[r], batches, loss).program for r in (True, False))
    x = torch.randn(64, 3, 8, 8)
    assert refitted.state()["wide.weight"].shape[0] == 3  # a 3-channel image: three channels say it all
    error = [float((p(x) - program(x)).square().mean().sqrt()) for p in (refitted, cut)]
    assert error[0] < 0.02 * float(program(x).std())
    assert error[0] < 0.1 * error[1]


def test_reconstruction_lowers_the_error_of_a_residual_network(network: Program, batches: Batches, loss: Loss) -> None:
    x = torch.randn(64, 3, 8, 8)
    errors = []
    for reconstruct in (True, False):
        options = PruneOptions({"macs": 0.4}, criterion="l2", reconstruct=reconstruct)
        errors.append(float((prune(network, options, batches, loss).program(x) - network(x)).square().mean()))
    assert errors[0] < 0.5 * errors[1]


def test_taylor_scores_are_the_first_order_effect(network: Program, batches: Batches, loss: Loss) -> None:
    """Scaling a channel's readers by 1 - ε changes the loss by -ε Σ a g: compare with a finite difference."""
    groups = channel_groups(network)
    scores = unit_scores("activation_taylor", Evidence(network, groups, batches, loss))
    group = groups.group("inner.weight")
    state = network.state()
    one = [((b[0][:1],), t[:1]) for b, t in batches[:1]]
    single = unit_scores("activation_taylor", Evidence(network, groups, one, loss))
    shrunk = state["outer.weight"].detach().clone()
    shrunk[:, 3] *= 1 - 1e-2
    with torch.no_grad():
        change = loss(network.with_state({"outer.weight": shrunk})(*one[0][0]), one[0][1]) - loss(
            network(*one[0][0]), one[0][1]
        )
    assert abs(float(change)) == pytest.approx(1e-2 * single[group.first + 3], rel=0.1, abs=1e-6)
    assert np.isfinite(scores).all()
    assert (scores >= 0).all()
