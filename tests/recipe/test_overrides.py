"""`--set` changes one value, and its mistakes name the flag instead of a line of the file."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepress.errors import UserError
from edgepress.recipe import Recipe, parse_recipe

TEXT = """\
schema: 1
name: small
model: {onnx: net.onnx}
measure: {accuracy: false}
steps:
  - prune: {criterion: l2, reduce: {macs: 0.5}, reconstruct: false}
  - export: {}
"""


def read(*overrides: str) -> Recipe:
    return parse_recipe(TEXT, name="r.yaml", base=Path("/b"), overrides=overrides)


def test_values_are_yaml() -> None:
    recipe = read("steps.0.prune.reduce.macs=0.25", "targets=[a, b]", "name=other", "measure.latency={runs: 9}")
    assert recipe.steps[0].config.model_dump()["reduce"] == {"macs": 0.25}
    assert recipe.targets == ("a", "b")
    assert recipe.name == "other"
    assert recipe.measure.latency is not None
    assert (recipe.measure.latency.runs, recipe.measure.latency.warmup) == (9, 20)


def test_sections_are_made_where_they_are_missing() -> None:
    assert read("data.calibration.samples=7").data.calibration.samples == 7


def test_a_whole_item_can_be_replaced_and_the_last_override_wins() -> None:
    recipe = read("steps.0={export: {opset: 15}}", "seed=1", "seed=2")
    assert [item.kind for item in recipe.steps] == ["export", "export"]
    assert recipe.seed == 2


def test_paths_in_overrides_are_relative_to_the_recipe() -> None:
    assert read("model.onnx=other/net.onnx").model.onnx == Path("/b/other/net.onnx")


BAD = {
    "no equals sign": ("seed", "not an override", "path=value"),
    "no value": ("seed=", "not an override", "path=value"),
    "empty key": ("a..b=1", "not an override", "path=value"),
    "endless path": (".".join("a" * 500) + "=1", "not an override", "path=value"),
    "index too large": ("steps.2.export.opset=18", "steps is a list", "an index from 0 to 1"),
    "negative index": ("steps.-1.export.opset=18", "steps is a list", "an index from 0 to 1"),
    "word as index": ("steps.prune.minimum=4", "steps is a list", "an index from 0 to 1"),
    "into a number": ("schema.x=1", "no such place", "a mapping at schema"),
    "no yaml": ("targets=[a", "not valid YAML", "YAML"),
    "unknown key": ("steps.0.prune.minimun=4", "unknown key 'minimun' in steps.0.prune", "rename it to 'minimum'"),
    "wrong type": ("steps.0.prune.minimum=many", "steps.0.prune.minimum", "a whole number"),
    "unknown section": ("measur.accuracy=true", "unknown key 'measur'", "measure"),
}


@pytest.mark.parametrize(("override", "what", "expected"), BAD.values(), ids=BAD)
def test_bad_overrides_name_the_flag(override: str, what: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        read(override)
    assert caught.value.what.startswith(f"--set {override}")
    assert what in caught.value.what
    assert expected in str(caught.value)


keys = st.sampled_from(["steps", "0", "1", "prune", "reduce", "model", "onnx", "measure", "budgets", "name", "data"])


@settings(max_examples=300, deadline=None)
@given(path=st.lists(keys | st.text(max_size=3), max_size=5), value=st.text(alphabet="0a[]{}:,-'\" *&!", max_size=6))
def test_any_override_is_taken_or_refused(path: list[str], value: str) -> None:
    with suppress(UserError):
        read(f"{'.'.join(path)}={value}")


def test_an_error_elsewhere_still_names_its_line() -> None:
    with pytest.raises(UserError) as caught:
        parse_recipe(TEXT.replace("l2", "l3"), name="r.yaml", base=Path("/b"), overrides=["seed=1"])
    assert caught.value.what.startswith("r.yaml:6:24")
