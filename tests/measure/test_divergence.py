"""The first layer where two hops differ is found where it was put."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from edgepress import ir, targets
from edgepress.errors import UserError
from edgepress.exporters.onnx import export_onnx
from edgepress.measure.divergence import first_divergence, trace_onnx, trace_program

X = {"x": np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)}


class Three(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 3)
        self.classifier = torch.nn.Linear(8, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.second(self.first(image).relu()).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def program() -> ir.Program:
    torch.manual_seed(0)
    return ir.capture(Three(), [torch.randn(2, 3, 8, 8)], input_names=["x"], output_names=["y"])


@pytest.fixture
def artifact(program: ir.Program, tmp_path: Path) -> Path:
    export_onnx(program, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_a_faithful_export_does_not_diverge(program: ir.Program, artifact: Path) -> None:
    ours, theirs = trace_program(program, X), trace_onnx(artifact, targets.load("local-cpu"), X)
    assert {"conv2d", "relu", "conv2d_1", "relu_1"} <= ours.keys() & theirs.keys()
    assert first_divergence(ours, theirs) is None


@pytest.mark.parametrize(("weight", "layer"), [("first.weight", "conv2d"), ("second.bias", "conv2d_1")])
def test_a_layer_that_was_tampered_with_is_found(program: ir.Program, artifact: Path, weight: str, layer: str) -> None:
    model = onnx.load(artifact)
    (tensor,) = (t for t in model.graph.initializer if t.name == weight)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(0.5), weight))
    onnx.save(model, artifact)
    found = first_divergence(trace_program(program, X), trace_onnx(artifact, targets.load("local-cpu"), X))
    assert found is not None
    assert found.layer == layer
    assert found.max_abs > 0.1


def test_two_runtimes_can_be_compared(artifact: Path) -> None:
    pytest.importorskip("openvino")
    traces = [trace_onnx(artifact, targets.load(name), X) for name in ("local-cpu", "openvino-cpu")]
    assert first_divergence(*traces) is None


def test_the_tolerance_is_relative_to_the_tensor() -> None:
    ours, theirs = {"a": np.array([1000.0])}, {"a": np.array([1000.5])}
    assert first_divergence(ours, theirs, tolerance=1e-3) is None
    found = first_divergence(ours, theirs, tolerance=1e-4)
    assert found is not None and found.max_abs == pytest.approx(0.5)


def test_not_a_number_differs_from_every_number() -> None:
    found = first_divergence({"a": np.array([1.0])}, {"a": np.array([np.nan])})
    assert found is not None and found.layer == "a"


def test_traces_without_a_common_tensor() -> None:
    with pytest.raises(UserError, match="cannot be compared"):
        first_divergence({"a": np.zeros(1)}, {"b": np.zeros(1)})
