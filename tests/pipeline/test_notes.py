"""What a report says beside the numbers."""

from pathlib import Path

from edgepress.pipeline.evidence import weights_note
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
