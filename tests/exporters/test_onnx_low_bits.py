from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto
from torch import nn

from edgepress.errors import UserError
from edgepress.exporters.onnx import export_onnx
from edgepress.exporters.tensorrt.lint import lint
from edgepress.ir import Program, capture
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.targets.capability import Capability, load_capability


class Perceptron(nn.Module):
    """Two wide layers around a mean of other axes than an image's."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 48), nn.Linear(48, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x))).mean(1)


@pytest.fixture(scope="module")
def perceptron() -> Program:
    torch.manual_seed(0)
    return capture(Perceptron(), [torch.randn(2, 5, 64)], input_names=["x"], output_names=["y"])


@pytest.fixture(scope="module")
def rows() -> torch.Tensor:
    return torch.randn(32, 5, 64, generator=torch.Generator().manual_seed(1))


def session(path: Path, optimized: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if optimized:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def types(path: Path) -> set[int]:
    return {tensor.data_type for tensor in onnx.load(path).graph.initializer}


def relative(found: np.ndarray, expected: torch.Tensor) -> float:
    return float(np.linalg.norm(found - expected.numpy()) / np.linalg.norm(expected.numpy()))


@pytest.mark.parametrize("bits", [4, 8])
def test_blocks_become_matmul_nbits(
    perceptron: Program, rows: torch.Tensor, x86: Capability, tmp_path: Path, bits: int
) -> None:
    options = QuantOptions(weight_bits=bits, activation_bits=None, weight_block=16, rounding="output")
    result = quantize(perceptron, options, x86, [(rows,)])
    assert [w.block for w in result.plan.weights] == [16, 16]
    artifact = export_onnx(result.program, tmp_path / "m.onnx", opset=17)
    assert artifact.manifest["opset"] == 21
    assert (TensorProto.INT4 in types(artifact.path)) == (bits == 4)
    found = session(artifact.path, tmp_path / "o.onnx").run(None, {"x": rows.numpy()})[0]
    # the fused kernel rounds activations to eight bits of its own
    assert relative(found, result.program(rows)) < 0.02
    assert "MatMulNBits" in {node.op_type for node in onnx.load(tmp_path / "o.onnx").graph.node}


def test_blocks_of_four_bits_weigh_a_sixth(perceptron: Program, x86: Capability, tmp_path: Path) -> None:
    options = QuantOptions(weight_bits=4, activation_bits=None, weight_block=16, rounding="nearest")
    narrow = export_onnx(quantize(perceptron, options, x86, []).program, tmp_path / "n.onnx").path.stat().st_size
    whole = export_onnx(perceptron, tmp_path / "w.onnx").path.stat().st_size
    values = 64 * 48 + 48 * 10
    assert whole - narrow > values * 4 - (values / 2 + values / 16 * 4) - 600


def test_four_bits_are_stored_as_four_and_computed_as_eight(
    residual: Program, images: torch.Tensor, x86: Capability, tmp_path: Path
) -> None:
    result = quantize(residual, QuantOptions(weight_bits=4), x86, [(images,)])
    wide = export_onnx(result.program, tmp_path / "8.onnx", opset=20)
    packed = export_onnx(result.program, tmp_path / "4.onnx", opset=21)
    assert TensorProto.INT4 in types(packed.path) and TensorProto.INT4 not in types(wide.path)
    feeds = {"image": images[:8].numpy()}
    outputs = [session(a.path, tmp_path / f"{a.path.stem}.o").run(None, feeds)[0] for a in (wide, packed)]
    assert np.array_equal(*outputs)
    kernels = [sorted(n.op_type for n in onnx.load(tmp_path / f"{s}.o").graph.node) for s in ("8", "4")]
    assert kernels[0] == kernels[1] and "QLinearConv" in kernels[1]


def test_two_bits_need_opset_25(residual: Program, images: torch.Tensor, x86: Capability, tmp_path: Path) -> None:
    result = quantize(residual, QuantOptions(weight_bits=2), x86, [(images,)])
    four, two = (export_onnx(result.program, tmp_path / f"{n}.onnx", opset=n) for n in (21, 25))
    assert TensorProto.INT2 in types(two.path) and TensorProto.INT2 not in types(four.path)
    feeds = {"image": images[:8].numpy()}
    outputs = [session(a.path).run(None, feeds)[0] for a in (four, two)]
    assert np.array_equal(*outputs) and relative(outputs[0], result.program(images[:8])) < 0.02


@pytest.mark.parametrize("opset", [13, 18, 21, 25])
def test_float_networks_in_every_opset(perceptron: Program, rows: torch.Tensor, tmp_path: Path, opset: int) -> None:
    path = export_onnx(perceptron, tmp_path / "m.onnx", opset=opset).path
    assert relative(session(path).run(None, {"x": rows.numpy()})[0], perceptron(rows)) < 1e-5


def test_unknown_opsets_are_refused(perceptron: Program, tmp_path: Path) -> None:
    for opset in (12, 26):
        with pytest.raises(UserError, match=f"cannot write opset {opset}"):
            export_onnx(perceptron, tmp_path / "m.onnx", opset=opset)


def test_rows_that_blocks_do_not_divide_keep_one_scale(x86: Capability) -> None:
    program = capture(nn.Linear(50, 8), [torch.randn(2, 50)])
    options = QuantOptions(weight_bits=4, activation_bits=None, weight_block=32, rounding="nearest")
    assert quantize(program, options, load_capability("onnxruntime-x86"), []).plan.weights[0].block is None


class Causal(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = x.unbind(1)
        return nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)


def test_causal_attention(tmp_path: Path) -> None:
    program = capture(Causal(), [torch.randn(2, 3, 2, 6, 4)], input_names=["x"])
    artifact, x = export_onnx(program, tmp_path / "m.onnx"), torch.randn(5, 3, 2, 6, 4)
    assert artifact.manifest["exporter"] == "edgepress"
    assert relative(session(artifact.path).run(None, {"x": x.numpy()})[0], program(x)) < 1e-5


def test_tensorrt_gets_no_casts_and_takes_the_files(residual: Program, images: torch.Tensor, tmp_path: Path) -> None:
    for table, bits in (("tensorrt", 4), ("tensorrt-fp8", 8)):
        result = quantize(residual, QuantOptions(weight_bits=bits), load_capability(table), [(images,)])
        artifact = export_onnx(result.program, tmp_path / f"{table}.onnx", opset=21)
        assert "Cast" not in artifact.manifest["operators"]  # type: ignore[operator]
        assert not [f for f in lint(artifact.path) if f.kind == "rejected"]


def test_tensorrt_takes_weights_in_blocks(perceptron: Program, tmp_path: Path) -> None:
    options = QuantOptions(weight_bits=4, activation_bits=None, weight_block=16, rounding="nearest")
    artifact = export_onnx(quantize(perceptron, options, load_capability("tensorrt"), []).program, tmp_path / "m.onnx")
    assert not [f for f in lint(artifact.path) if f.kind == "rejected"]
