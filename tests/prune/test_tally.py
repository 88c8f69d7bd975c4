"""From shares of tensors to scores of units."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgepress.analysis.channels import channel_groups
from edgepress.analysis.pruning_terms import AGGREGATIONS, CRITERIA, NORMALIZATIONS
from edgepress.errors import UserError
from edgepress.ir import Program, capture
from edgepress.prune import PruneOptions, prune
from edgepress.prune.tally import Tally, normalized

Loss = Callable[[Tensor, Tensor], Tensor]


@pytest.fixture
def tally() -> Tally:
    """Units 0 and 1 have two tensors, unit 2 one, unit 3 none; two positions of the first tensor belong to unit 0."""
    tally = Tally(4)
    tally.add("a", np.array([0, 0, 1, -1]), torch.tensor([1.0, 2.0, 4.0, 99.0]))
    tally.add("b", np.array([2, 1, 0]), torch.tensor([5.0, 1.0, 0.5]))
    tally.add("b", np.array([2, 1, 0]), torch.tensor([5.0, 0.0, 0.5]))  # a second batch
    return tally


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        ("sum", [4.0, 5.0, 10.0, 0.0]),
        ("mean", [2.0, 2.5, 10.0, 0.0]),
        ("max", [3.0, 4.0, 10.0, 0.0]),
        ("product", [3.0**0.5, 2.0, 10.0, 0.0]),
    ],
)
def test_shares_become_scores(tally: Tally, aggregation: str, expected: list[float]) -> None:
    np.testing.assert_allclose(tally.scores(aggregation), expected)


@pytest.mark.parametrize("normalization", [n for n in NORMALIZATIONS if n not in ("auto", "none")])
def test_scales_do_not_change_the_order_within_a_group_and_forget_its_size(normalization: str) -> None:
    network = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    groups = channel_groups(capture(network, [torch.randn(2, 3)]))
    scores = np.random.default_rng(0).random(groups.units)
    scaled = normalized(groups, scores, normalization)
    for group in groups.groups:
        part = slice(group.first, group.first + group.size)
        assert (np.argsort(scaled[part]) == np.argsort(scores[part])).all()
        assert (scaled[part] >= 0).all()
    np.testing.assert_allclose(normalized(groups, 7 * scores, normalization), scaled)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion_prunes_with_every_aggregation(
    network: Program, batches: list[tuple[tuple[Tensor, ...], Tensor]], loss: Loss, criterion: str, aggregation: str
) -> None:
    options = PruneOptions({"macs": 0.3}, criterion=criterion, aggregation=aggregation, reconstruct=False)  # type: ignore[arg-type]
    result = prune(network, options, batches, loss)
    assert result.facts["macs_after"] <= 0.7 * result.facts["macs_before"]


def test_aggregation_decides_who_goes() -> None:
    network = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0], [0.6]]))
        network[1].weight.copy_(torch.tensor([[0.1, 0.6]]))
    program = capture(network, [torch.randn(2, 1)])
    kept = {}
    for aggregation in ("max", "product"):
        options = PruneOptions({"channels": 0.5}, criterion="l1", aggregation=aggregation, reconstruct=False)  # type: ignore[arg-type]
        smaller = prune(program, options, [], lambda y, t: y.sum()).program
        kept[aggregation] = float(next(v.detach() for n, v in smaller.state().items() if n.startswith("0")))
    assert kept == {"max": pytest.approx(1.0), "product": pytest.approx(0.6)}


def test_unknown_words_are_refused() -> None:
    with pytest.raises(UserError, match="aggregation"):
        PruneOptions(aggregation="median")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="normalization"):
        PruneOptions(normalization="zscore")  # type: ignore[arg-type]
