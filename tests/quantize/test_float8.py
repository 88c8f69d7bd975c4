from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto

from edgepress.errors import UserError
from edgepress.exporters.onnx import export_onnx
from edgepress.ir import Program, load, save
from edgepress.ir.float8_ops import to_float8
from edgepress.passes.learn_scales import learn_scales
from edgepress.passes.strip_quantization import strip_quantization
from edgepress.quantize.diagnose import diagnose, sqnr
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import QuantizeResult, quantize
from edgepress.targets.capability import load_capability


@pytest.fixture(scope="module")
def result(residual: Program, images: torch.Tensor) -> QuantizeResult:
    return quantize(residual, QuantOptions(), load_capability("tensorrt-fp8"), [(images,)])


def test_numbers_saturate_and_keep_three_bits_of_mantissa() -> None:
    found = to_float8(torch.tensor([1e6, -1e6, 1.0, 1.06, 1.07, 17.0])).float()
    assert found.tolist() == [448.0, -448.0, 1.0, 1.0, 1.125, 16.0]


def test_weights_and_activations_are_float8(result: QuantizeResult, residual: Program, images: torch.Tensor) -> None:
    assert {w.grid.dtype for w in result.plan.weights} == {"float8e4m3fn"}
    assert not result.plan.biases and len(result.plan.weights) == 4
    assert 25 < sqnr(residual(images), result.program(images)) < 60
    found = diagnose(result.reference, result.program, [(images,)])
    assert all(n.weight_db is None or 25 < n.weight_db < 45 for n in found.nodes)


def test_the_onnx_file_holds_float8_and_computes_the_same(
    result: QuantizeResult, images: torch.Tensor, tmp_path: Path
) -> None:
    artifact = export_onnx(result.program, tmp_path / "m.onnx", opset=17)
    assert artifact.manifest["opset"] == 19 and artifact.manifest["exporter"] == "edgepress"
    stored = [t for t in onnx.load(artifact.path).graph.initializer if t.data_type == TensorProto.FLOAT8E4M3FN]
    assert len([t for t in stored if len(t.dims) > 1]) == 4
    options = onnxruntime.SessionOptions()  # optimized, onnxruntime 1.31 makes QLinearConv of it, which has no float8
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(artifact.path), options, providers=["CPUExecutionProvider"])
    found = session.run(None, {"image": images[:8].numpy()})[0]
    assert np.allclose(found, result.program(images[:8]), atol=1e-4)


def test_it_can_be_saved_and_taken_out_again(result: QuantizeResult, images: torch.Tensor, tmp_path: Path) -> None:
    save(result.program, tmp_path / "p")
    assert torch.equal(load(tmp_path / "p")(images), result.program(images))
    stripped = strip_quantization(result.program)
    assert torch.allclose(stripped.program(images), result.reference(images), atol=1e-6)


def test_what_is_for_integers_is_refused(residual: Program, result: QuantizeResult, images: torch.Tensor) -> None:
    with pytest.raises(UserError, match="float8 numbers only"):
        quantize(residual, QuantOptions(weight_bits=4), load_capability("tensorrt-fp8"), [(images,)])
    with pytest.raises(UserError, match="cannot be trained"):
        learn_scales(result.program)
