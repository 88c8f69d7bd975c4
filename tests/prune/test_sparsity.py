from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgepress.analysis.channels import channel_groups
from edgepress.errors import UserError
from edgepress.ir import Program, capture
from edgepress.passes.mask_weights import apply_masks, kept_zero, mask_weights, masks_of
from edgepress.prune import SparsityOptions, group_lasso, sensitivity, sparsify
from edgepress.prune.gradual import GradualMasks
from edgepress.prune.heat_map import draw
from edgepress.prune.sparsity import cubic_sparsity, keep_pattern

Batches = list[tuple[tuple[Tensor, ...], Tensor]]
Loss = Callable[[Tensor, Tensor], Tensor]
METHODS = ("magnitude", "wanda", "sparsegpt")


@pytest.fixture(scope="module")
def linear() -> Program:
    """A network that reads correlated features, as real ones do."""
    torch.manual_seed(0)
    return capture(nn.Sequential(nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 8)), [torch.randn(2, 32)])


@pytest.fixture(scope="module")
def features() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(512, 8) @ torch.randn(8, 32) + 0.1 * torch.randn(512, 32)


@pytest.mark.parametrize("method", METHODS)
def test_half_of_each_layer_is_zero(linear: Program, features: Tensor, method: str) -> None:
    result = sparsify(linear, SparsityOptions(method), [(features,)])  # type: ignore[arg-type]
    assert result.changed
    for name in ("0.weight", "2.weight"):
        weight = result.program.state()[name]
        assert float((weight == 0).float().mean()) == pytest.approx(0.5, abs=0.02)
        assert torch.equal(masks_of(result.program)[name], result.masks[name])
    assert result.facts["zeros"] == pytest.approx((32 * 24 + 24 * 8) / 2, abs=10)
    assert result.facts["compressed_bytes"] < result.facts["dense_bytes"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("pattern", [(2, 4), (1, 4)])
def test_patterns_hold_in_every_row(linear: Program, features: Tensor, method: str, pattern: tuple[int, int]) -> None:
    options = SparsityOptions(method, pattern=pattern)  # type: ignore[arg-type]
    weight = sparsify(linear, options, [(features,)]).program.state()["0.weight"]
    assert ((weight.reshape(-1, pattern[1]) != 0).sum(1) <= pattern[0]).all()


def test_sparsegpt_is_closer_than_wanda_and_wanda_than_nothing_known(linear: Program, features: Tensor) -> None:
    errors = []
    for method in ("sparsegpt", "wanda"):
        sparse = sparsify(linear, SparsityOptions(method, pattern=(2, 4)), [(features,)]).program  # type: ignore[arg-type]
        errors.append(float((sparse(features) - linear(features)).square().mean()))
    assert errors[0] < 0.7 * errors[1]


def test_layers_that_do_not_fit_the_pattern_are_refused(network: Program) -> None:
    result = sparsify(network, SparsityOptions(pattern=(2, 4)))
    assert "stem.weight" in {r.node for r in result.refusals}  # 27 inputs
    assert "27 inputs" in next(r.found for r in result.refusals if r.node == "stem.weight")


def test_ignored_layers_stay_dense(linear: Program) -> None:
    result = sparsify(linear, SparsityOptions(ignore=("0.weight",)))
    assert set(result.masks) == {"2.weight"}


def test_methods_without_data_say_so(linear: Program) -> None:
    with pytest.raises(UserError, match="wanda"):
        sparsify(linear, SparsityOptions("wanda"))


@pytest.mark.parametrize("options", [{"sparsity": 1.0}, {"pattern": (5, 4)}, {"pattern": (0, 4)}])
def test_bad_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UserError):
        SparsityOptions(**options)  # type: ignore[arg-type]


def test_masks_are_honest_about_change_and_refuse_what_does_not_fit(linear: Program) -> None:
    keep = {"0.weight": torch.ones(24, 32, dtype=torch.bool)}
    assert not mask_weights(linear, keep).changed
    with pytest.raises(UserError, match="mask for"):
        mask_weights(linear, {"0.weight": torch.ones(3, dtype=torch.bool)})
    with pytest.raises(UserError, match="mask for"):
        mask_weights(linear, {"nothing": torch.ones(3, dtype=torch.bool)})


def test_masks_survive_training(linear: Program, features: Tensor) -> None:
    sparse = sparsify(linear, SparsityOptions()).program
    masks, module = masks_of(sparse), sparse.trainable()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(3):
        module(features).square().mean().backward()
        optimizer.step()
        apply_masks(dict(module.named_parameters()), masks)
    weight = dict(module.named_parameters())["0.weight"]
    assert not torch.equal(weight, sparse.state()["0.weight"]), "it did not learn"
    assert (weight[~masks["0.weight"]] == 0).all()


def test_pattern_of_known_scores() -> None:
    assert keep_pattern(torch.tensor([[1.0, 4.0, 2.0, 3.0]]), (2, 4)).tolist() == [[False, True, False, True]]


def test_cubic_schedule() -> None:
    assert cubic_sparsity(0, 10, 0.8) == pytest.approx(0.0)
    assert cubic_sparsity(10, 10, 0.8) == pytest.approx(0.8)
    assert cubic_sparsity(5, 10, 0.8) == pytest.approx(0.8 * (1 - 0.125))


def test_group_lasso_drives_units_to_zero(network: Program) -> None:
    groups = channel_groups(network)
    weights = {n: p.detach().clone().requires_grad_() for n, p in network.state().items() if p.is_floating_point()}
    first = float(group_lasso(groups, weights).detach())
    optimizer = torch.optim.SGD(list(weights.values()), lr=2e-3)
    for _ in range(60):
        optimizer.zero_grad()
        group_lasso(groups, weights).backward()
        optimizer.step()
    assert float(group_lasso(groups, weights).detach()) < 0.5 * first
    assert weights["head.2.bias"].grad is None, "output channels belong to no group"


def test_sensitivity_table(network: Program, batches: Batches, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    table = sensitivity(network, batches, loss, criterion="l2", ratios=(0.25, 0.75))
    assert {row.group for row in table.rows} == {"stem.weight", "inner.weight"}
    assert table.rise("stem.weight", 0.75) != table.rise("stem.weight", 0.25)
    text = table.to_text()
    assert "stem.weight" in text
    assert "-75%" in text
    assert table.to_json()["loss"] == table.loss


def test_one_threshold_for_the_network_gives_each_layer_its_own_share(linear: Program) -> None:
    one, other = (sparsify(linear, SparsityOptions(sparsity=0.6, scope=s)) for s in ("layer", "network"))  # type: ignore[arg-type]
    shares = [{n: float((~m).double().mean()) for n, m in r.masks.items()} for r in (one, other)]
    assert all(share == pytest.approx(0.6, abs=0.01) for share in shares[0].values())
    assert len({round(share, 2) for share in shares[1].values()}) > 1
    total = sum(int((~m).sum()) for m in other.masks.values()) / sum(m.numel() for m in other.masks.values())
    assert total == pytest.approx(0.6, abs=0.01)


def test_gradual_masks_tighten_and_end_at_the_goal(linear: Program) -> None:
    calls: list[object] = []
    masks = GradualMasks(lambda *a: calls.append(a) or torch.zeros(()), linear, SparsityOptions(sparsity=0.8))
    weights = {name: tensor.detach().clone() for name, tensor in linear.state().items()}
    zeros = []
    for progress in (0.0, 0.1, 0.3, 0.8, 1.0):
        masks.at(progress)
        masks(1, 2, 3)
        masks.constrain(weights)
        zeros.append(float((weights["0.weight"] == 0).double().mean()))
    assert zeros == sorted(zeros)
    assert zeros[0] == 0.0
    assert 0.1 < zeros[1] < zeros[2] < zeros[3] == pytest.approx(0.8, abs=0.01)
    assert len(calls) == 5
    after = linear.with_state({"0.weight": weights["0.weight"]})
    assert torch.equal(masks.masks(after)["0.weight"], weights["0.weight"] != 0)


def test_gradual_patterns_lose_one_weight_at_a_time(linear: Program) -> None:
    masks = GradualMasks(lambda *a: torch.zeros(()), linear, SparsityOptions(pattern=(1, 4)))
    weights = {name: tensor.detach().clone() for name, tensor in linear.state().items()}
    seen = []
    for progress in (0.0, 0.1, 0.3, 1.0):
        masks.at(progress)
        masks.constrain(weights)
        seen.append(int((weights["0.weight"].reshape(-1, 4) != 0).sum(1).max()))
    assert seen[0] == 4
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] == 1


def test_masks_found_while_training_are_recorded_though_the_zeros_are_there(linear: Program) -> None:
    zeroed = linear.with_state({"0.weight": torch.where(linear.state()["0.weight"] > 0, 1.0, 0.0)})
    result = mask_weights(zeroed, {"0.weight": zeroed.state()["0.weight"] != 0})
    assert result.changed
    assert kept_zero(linear) is None
    keep = kept_zero(result.program)
    assert keep is not None
    weights = {"0.weight": torch.ones(24, 32)}
    keep(weights)
    assert torch.equal(weights["0.weight"] != 0, masks_of(result.program)["0.weight"])


def test_group_lasso_leaves_other_groups_alone(network: Program) -> None:
    groups = channel_groups(network)
    weights = {n: p.detach().clone().requires_grad_() for n, p in network.state().items() if p.is_floating_point()}
    group_lasso(groups, weights, [groups.group("inner.weight")]).backward()
    assert weights["inner.weight"].grad is not None
    stem = weights["stem.weight"].grad
    assert stem is None or not stem.any()


def test_the_heat_map_is_a_picture(network: Program, batches: Batches, loss: Loss, tmp_path: Path) -> None:
    table = sensitivity(network, batches, loss, criterion="l2", ratios=(0.5,))
    draw(table, tmp_path / "map.svg")
    assert (tmp_path / "map.svg").read_text().startswith("<?xml")
    with pytest.raises(UserError, match="cannot draw"):
        draw(table, tmp_path / "map.txt")
