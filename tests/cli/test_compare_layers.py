"""`edgepress compare --layers` on real files."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from edgepress.exporters.onnx import export_onnx
from edgepress.ir import capture
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.targets.capability import load_capability
from edgepress_cli.main import main


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A float file and one whose weights have three bits, rounded to nearest."""
    torch.manual_seed(0)
    folder, x = tmp_path_factory.mktemp("pair"), torch.randn(32, 3, 6, 6)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 4)
    )
    program = capture(network, [x[:2]], input_names=["image"], output_names=["scores"])
    options = QuantOptions(weight_bits=3, rounding="nearest")
    quantized = quantize(program, options, load_capability("onnxruntime-x86"), [(x,)]).program
    files: list[Path] = [folder / "float.onnx", folder / "int3.onnx"]
    for one, file in zip((program, quantized), files, strict=True):
        export_onnx(one, file)
    return [str(file) for file in files]


def test_a_table_with_the_layer_at_fault(pair: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *pair, "--layers", "--no-repairs", "--samples", "16"]) == 0
    out = capsys.readouterr().out
    assert "first bad node" in out and "conv2d_1" in out and "weight" in out and "noise" in out


def test_json_with_measured_repairs(pair: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", *pair, "--layers", "--json", "--samples", "16", "--capability", "onnxruntime-x86"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"node", "layer", "sqnr_db", "weight_db", "rounding_db", "clipped", "used", "cause"} <= set(
        found["nodes"][0]
    )
    assert found["repairs"] == sorted(found["repairs"], key=lambda r: (r["price"], -r["gain_db"]))


def test_three_models_are_too_many(pair: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *pair, pair[0], "--layers"]) == 2
    assert "--layers compares two models" in capsys.readouterr().err
