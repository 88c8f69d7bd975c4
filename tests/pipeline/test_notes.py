"""What a report says beside the numbers."""

from pathlib import Path

import pytest
import torch

from edgepress.data import Dataset
from edgepress.ir import capture
from edgepress.pipeline.evidence import data_notes, weights_note
from edgepress.pipeline.samples import Samples, open_samples
from edgepress.recipe.loader import parse_recipe

RECIPE = """schema: 1
name: n
model:
  factory: net.py:build
{weights}  inputs: {{x: {{shape: [3]}}}}
steps:
  - export: {{format: onnx}}
targets: [local-cpu]
measure: {{accuracy: false}}
"""


def test_a_network_without_weights_is_named(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("def build(): ...\n")
    (tmp_path / "net.safetensors").write_bytes(b"")
    bare, given = (
        parse_recipe(RECIPE.format(weights=weights), name="r", base=tmp_path)
        for weights in ("", "  weights: net.safetensors\n")
    )
    assert weights_note(bare) == ["no `model.weights`: the weights are those that net.py:build made"]
    assert weights_note(given) == []


@pytest.mark.parametrize(
    ("targets", "classes", "expected"),
    [
        (torch.tensor([0, 0, 1]), ("cat", "dog", "cow"), "by class cat: 2 / dog: 1 / cow: 0, "),
        (torch.tensor([-1, -1, 5]), (), "by class -1: 2 / 5: 1, "),
        (torch.arange(30) // 2 % 14, (), "14 classes of 2 to 4 samples, "),
        (torch.tensor([0.5, 0.1, 0.2]), (), ""),
        (None, (), ""),
    ],
)
def test_data_are_told_by_size_balance_and_hash(
    targets: torch.Tensor | None, classes: tuple[str, ...], expected: str
) -> None:
    n = 3 if targets is None else len(targets)
    data = Dataset((torch.zeros(n, 2),), targets, classes, "d.npz")
    assert data_notes(Samples(train=data)) == [
        f"training data: d.npz, {n} samples, {expected}sha256 {data.digest[:12]}"
    ]


OWN_DATA = """schema: 1
name: n
model: {factory: net.py:build, inputs: {x: {shape: [2]}}}
data:
  train: {kind: factory, function: own.py:rows, kwargs: {seed: 3, limit: 5}}
  evaluate: {kind: factory, function: own.py:rows, kwargs: {seed: 4, limit: 9}, limit: 2}
steps:
  - export: {format: onnx}
targets: [local-cpu]
"""


def test_a_function_of_ones_own_may_call_its_arguments_as_we_do(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("def build(): ...\n")
    (tmp_path / "own.py").write_text(
        "import torch\n"
        "def rows(seed, limit):\n"
        "    x = torch.full((limit, 2), float(seed)) + torch.arange(limit)[:, None]\n"
        "    return x, torch.zeros(limit, dtype=torch.int64)\n"
    )
    recipe = parse_recipe(OWN_DATA, name="r", base=tmp_path)
    program = capture(torch.nn.Linear(2, 3), [torch.zeros(2, 2)], input_names=["x"])
    samples = open_samples(recipe.data, program, seed=0, calibration=1)
    assert samples.train is not None and samples.evaluate is not None
    assert (len(samples.train), float(samples.train.inputs[0][0, 0])) == (5, 3.0)
    assert len(samples.evaluate) == 2
