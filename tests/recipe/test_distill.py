"""`distill:` in its two forms, and what it refuses."""

from pathlib import Path

import pytest

from edgepress.distill.term import FEATURE_LOSSES, OUTPUT_LOSSES, settings_of
from edgepress.errors import UserError
from edgepress.recipe import Recipe, parse_recipe, resolved_yaml
from edgepress.recipe.steps.distill import FEATURES, SETTINGS, Distill

HEAD = """
schema: 1
name: x
model: {factory: "net.py:make", inputs: {x: {shape: [4]}}}
data: {train: {kind: digits}, evaluate: {kind: digits, split: test}}
steps:
  - train: {distill: %s}
"""


def read(distill: str) -> Recipe:
    return parse_recipe(HEAD % distill, name="r.yaml", base=Path("/"))


def distill(text: str) -> Distill:
    config = read(text).steps[0].config.distill  # type: ignore[attr-defined]
    assert isinstance(config, Distill)
    return config


def test_the_tables_are_those_of_the_losses() -> None:
    assert SETTINGS.keys() == {"task", *OUTPUT_LOSSES, *FEATURE_LOSSES}
    assert FEATURE_LOSSES.keys() == FEATURES
    assert {loss: sorted(names) for loss, names in SETTINGS.items()} == {k: sorted(settings_of(k)) for k in SETTINGS}


def test_the_short_form_is_a_sum_of_two() -> None:
    assert [str(t) for t in distill("{loss: kd, weight: 0.7, temperature: 2.0}").terms("classification")] == [
        "0.3 task", "0.7 kd, temperature 2",
    ]  # fmt: skip
    assert [t.loss for t in distill("{loss: regression, weight: 1.0}").terms("classification")] == ["regression"]
    assert not read("{loss: kd, weight: 1.0}").steps[0].config.needs_labels("classification")  # type: ignore[attr-defined]
    assert read("{loss: dkd, weight: 1.0}").steps[0].config.needs_labels("classification")  # type: ignore[attr-defined]


def test_left_to_edgepress() -> None:
    chosen = distill("{}")
    assert chosen.chooses and not distill("{loss: kd}").chooses
    assert [str(t) for t in chosen.terms("classification")] == ["1 task", "1 hint, relative 0"]
    apart = [str(t) for t in chosen.terms("classification", features=False)]
    assert apart == ["0.1 task", "0.9 kd, temperature 4"]
    assert [t.loss for t in chosen.terms("language", features=False)] == ["task", "sequence"]
    assert [t.loss for t in distill("{weight: 1.0}").terms("detection")] == ["regression", "hint"]


def test_the_long_form() -> None:
    found = distill(
        "{losses: [{loss: task, weight: 0.3}, {loss: kd, temperature: 2.0}, {loss: hint, schedule: down, "
        "taps: {student: 'relu_.*', teacher: 'relu_[12]'}}, {loss: attention, taps: [[a, b]]}], "
        "teachers: [{onnx: big.onnx}, {factory: 'net.py:big', weights: big.pt}]}"
    )
    assert [t.spec() for t in found.terms("classification")][2] == {
        "loss": "hint", "weight": 1.0, "schedule": "down", "output": 0,
        "taps": {"student": "relu_.*", "teacher": "relu_[12]"},
    }  # fmt: skip
    assert found.terms("classification")[3].spec()["taps"] == (("a", "b"),)
    assert found.teachers is not None and found.teachers[1].weights == Path("/big.pt")
    assert found.source == "/big.onnx and /net.py:big"
    again = parse_recipe(resolved_yaml(read("{losses: [{loss: hint, taps: auto}]}")), name="r.yaml", base=Path("/"))
    assert again == read("{losses: [{loss: hint, taps: auto}]}")
    assert [t.loss for t in found.without(1, "classification").terms("classification")] == ["task", "hint", "attention"]


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ("{loss: kd, losses: [{loss: kd}]}", "one loss in short, or `losses`", "move loss into losses"),
        ("{losses: [{loss: task}]}", "compares nothing with the teacher", "add one"),
        ("{losses: []}", "compares nothing", "add one"),
        ("{teachers: []}", "teachers is empty", "remove teachers"),
        ("{losses: [{loss: kd, alpha: 2.0}]}", "the loss kd has no setting alpha", "remove alpha"),
        ("{losses: [{loss: kd, taps: auto}]}", "looks at outputs and has no taps", "remove taps"),
        ("{losses: [{loss: hints}]}", "not a usable value", "did you mean 'hint'?"),
        ("{losses: [{loss: hint, taps: {student: a}}]}", "lacks 'teacher'", "add 'teacher'"),
        ("{teachers: [{weights: a.pt}]}", "exactly one of its alternatives", "keep one"),
        ("{teachers: [{onnx: a.onnx, weights: a.pt}]}", "goes with a network.factory only", "remove weights"),
    ],
)
def test_what_is_refused(text: str, what: str, fix: str) -> None:
    with pytest.raises(UserError, match=r"r\.yaml:7") as caught:
        read(text)
    assert what in str(caught.value) and fix in caught.value.fix
