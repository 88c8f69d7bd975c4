from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edgepress.analysis.channels import channel_groups
from edgepress.errors import UserError
from edgepress.ir import Program, capture
from edgepress.passes.mask_weights import apply_masks, mask_weights, masks_of
from edgepress.prune import SparsityOptions, group_lasso, sensitivity, sparsify
from edgepress.prune.sparsity import cubic_sparsity, keep_pattern

Batches = list[tuple[tuple[Tensor, ...], Tensor]]
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
