"""What a sparsity step must say, and what a prune step may."""

from pathlib import Path

import pytest

from edgepress.errors import UserError
from edgepress.recipe import Recipe, parse_recipe

RECIPE = """\
schema: 1
name: sparse
model: {{factory: "net.py:net", inputs: {{x: {{shape: [4]}}}}}}
data: {{train: {{kind: npz, path: train.npz}}, evaluate: {{kind: npz, path: test.npz}}}}
steps:
  - {step}
"""


def recipe(step: str) -> Recipe:
    return parse_recipe(RECIPE.format(step=step), name="r.yaml", base=Path("/recipes"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("{}", "no goal"),
        ("{sparsity: 0.5, pattern: '2:4'}", "two goals"),
        ("{pattern: '2 of 4'}", "pattern"),
        ("{sparsity: 0.5, method: wanda, epochs: 2}", "by magnitude"),
        ("{sparsity: 1.5}", "sparsity"),
    ],
)
def test_wrong_sparsity_steps_are_named(settings: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        recipe(f"sparsify: {settings}")


def test_a_pattern_is_read() -> None:
    step = recipe("sparsify: {pattern: '1:4'}").steps[0].config
    assert step.kept_of == (1, 4)  # type: ignore[attr-defined]
    assert not step.needs()
    assert recipe("sparsify: {sparsity: 0.5, method: wanda}").steps[0].config.needs() == {"train"}


def test_pruning_may_reduce_time_and_activations() -> None:
    step = recipe("prune: {reduce: {latency: 0.3, activations: 0.2}}").steps[0].config
    assert step.reduce.shares == {"latency": 0.3, "activations": 0.2}  # type: ignore[attr-defined]


def test_reestimation_and_learning_need_data() -> None:
    blind = "criterion: l2, reconstruct: false, reduce: {macs: 0.5}"
    assert not recipe(f"prune: {{{blind}}}").steps[0].config.needs()
    for extra in ("reestimate: true", "learn: {epochs: 1}"):
        assert recipe(f"prune: {{{blind}, {extra}}}").steps[0].config.needs() == {"train"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("{}", "no aim"),
        ("{budget: {}}", "prune.budget is empty"),
        ("{budget: {flash: much}}", "flash"),
        ("{budget: {flash: 0}}", "flash"),
        ("{budget: {flash: 64 kB}, iterations: 2}", "stands alone"),
        ("{budget: {flash: 64 kB}, reduce: {latency: 0.2}}", "stands alone"),
    ],
)
def test_wrong_aims_of_pruning_are_named(settings: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        recipe(f"prune: {settings}")


def test_amounts_of_a_device_budget_are_read() -> None:
    step = recipe("prune: {budget: {flash: 64 kB, arena: 32 KiB, instructions: 1.5M}, reduce: {macs: 0.2}}").steps[0]
    limits = {"flash_bytes": 64_000, "arena_bytes": 32_768, "instructions": 1_500_000}
    assert step.config.budget.limits == limits  # type: ignore[union-attr]
    assert step.config.reduce.shares == {"macs": 0.2}  # type: ignore[union-attr]
