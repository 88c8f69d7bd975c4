from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from edgepress.errors import UserError
from edgepress.exporters.onnx import export_onnx
from edgepress.ir import Program, capture
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.targets.capability import Capability


def session(path: Path, optimized: Path | None = None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if optimized:
        options.optimized_model_filepath = str(optimized)
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def outputs(path: Path, program: Program, *inputs: torch.Tensor) -> np.ndarray:
    feeds = {name: x.numpy() for name, x in zip(program.input_names, inputs, strict=True)}
    return session(path).run(list(program.output_names), feeds)[0]


def test_float_export_computes_the_same(residual: Program, images: torch.Tensor, tmp_path: Path) -> None:
    artifact = export_onnx(residual, tmp_path / "m.onnx", metadata={"licence": "none"})
    for batch in (1, 5):
        assert np.allclose(outputs(artifact.path, residual, images[:batch]), residual(images[:batch]), atol=1e-5)
    model = onnx.load(artifact.path)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert {p.key: p.value for p in model.metadata_props} == {"licence": "none"}
    assert "BatchNormalization" not in artifact.manifest["operators"]
    assert artifact.manifest["exporter"] == "edgepress"


def test_equal_programs_give_equal_bytes(residual: Program, tmp_path: Path) -> None:
    first, second = (export_onnx(residual, tmp_path / name) for name in ("a.onnx", "b.onnx"))
    assert first.digest == second.digest
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_quantized_export_is_fused_to_integer_kernels(
    residual: Program, images: torch.Tensor, x86: Capability, tmp_path: Path
) -> None:
    result = quantize(residual, QuantOptions(), x86, [(images,)])
    artifact = export_onnx(result.program, tmp_path / "q.onnx")
    session(artifact.path, tmp_path / "optimized.onnx")
    kinds = [n.op_type for n in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count("QLinearConv") == 3 and "QLinearAdd" in kinds and "QGemm" in kinds
    assert not {"Conv", "Gemm", "Add", "Relu", "DequantizeLinear"} & set(kinds)
    assert kinds.count("QuantizeLinear") == 1, "only the input is quantized at run time"
    assert np.abs(outputs(artifact.path, residual, images) - result.program(images).numpy()).max() < 0.1


def test_weights_are_stored_as_integers_once(
    residual: Program, images: torch.Tensor, x86: Capability, tmp_path: Path
) -> None:
    artifact = export_onnx(quantize(residual, QuantOptions(), x86, [(images,)]).program, tmp_path / "q.onnx")
    stored = onnx.load(artifact.path).graph.initializer
    large = [t for t in stored if np.prod(t.dims) > 100]
    assert large and {t.data_type for t in large} == {onnx.TensorProto.INT8}


class Block(nn.Module):
    """A transformer block with a class token: expands, attends, normalises."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.qkv, self.out, self.norm = nn.Linear(16, 48), nn.Linear(16, 16), nn.LayerNorm(16)
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        q, k, v = (t.unflatten(-1, [2, 8]).transpose(1, 2) for t in self.qkv(x).split(16, -1))
        y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = self.norm(x + self.out(y))
        return self.norm(x + self.down(nn.functional.gelu(self.up(x))))[:, 0]


@pytest.fixture(scope="module")
def block() -> Program:
    torch.manual_seed(0)
    return capture(Block(), [torch.randn(2, 7, 16)], input_names=["x"], output_names=["y"])


def test_transformer_blocks(block: Program, x86: Capability, tmp_path: Path) -> None:
    x = torch.randn(3, 7, 16)
    artifact = export_onnx(block, tmp_path / "f.onnx")
    assert artifact.manifest["exporter"] == "edgepress"
    assert np.allclose(outputs(artifact.path, block, x), block(x), atol=1e-5)
    result = quantize(block, QuantOptions(), x86, [(torch.randn(64, 7, 16),)])
    quantized = export_onnx(result.program, tmp_path / "q.onnx")
    assert np.abs(outputs(quantized.path, block, x) - result.program(x).numpy()).max() < 0.05
    session(quantized.path, tmp_path / "optimized.onnx")
    kinds = [n.op_type for n in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count("QGemm") == 4 and "Gemm" not in kinds


class Odd(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.atan2(x, x + 3)


def test_unknown_operators_go_through_torch(tmp_path: Path) -> None:
    program = capture(Odd(), [torch.randn(2, 4)], input_names=["x"], output_names=["y"])
    artifact = export_onnx(program, tmp_path / "m.onnx")
    assert "torch.onnx" in str(artifact.manifest["exporter"])
    x = torch.randn(3, 4)
    assert np.allclose(outputs(artifact.path, program, x), program(x), atol=1e-6)


def test_unwritable_places_and_opsets_are_refused(residual: Program, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        export_onnx(residual, tmp_path / "file" / "m.onnx")
    with pytest.raises(UserError, match="opset"):
        export_onnx(residual, tmp_path / "m.onnx", opset=7)


LAYERS = [
    (nn.Conv2d(3, 4, 3, stride=2, padding=1, dilation=2), (3, 9, 9)),
    (nn.Conv2d(3, 6, 3, padding="same", groups=3), (3, 9, 9)),
    (nn.Conv1d(3, 4, 5), (3, 20)),
    (nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1), (3, 5, 5)),
    (nn.MaxPool2d(3, 2, 1), (3, 9, 9)),
    (nn.AvgPool2d(2), (3, 8, 8)),
    (nn.AdaptiveAvgPool2d(4), (3, 8, 8)),
    (nn.BatchNorm2d(3), (3, 4, 4)),
    (nn.LayerNorm(5), (4, 5)),
    (nn.Linear(5, 3, bias=False), (4, 5)),
    (nn.Linear(5, 3), (5,)),
    (nn.Hardswish(), (5,)),
    (nn.SiLU(), (5,)),
    (nn.GELU(), (5,)),
    (nn.ReLU6(), (5,)),
    (nn.Hardtanh(), (5,)),
    (nn.LeakyReLU(0.2), (5,)),
    (nn.Sigmoid(), (5,)),
    (nn.Softmax(-1), (4, 5)),
    (nn.Flatten(), (3, 4)),
    (nn.Upsample(scale_factor=2), (3, 4, 4)),
    (nn.ReflectionPad2d(2), (3, 5, 5)),
    (nn.PixelShuffle(2), (4, 3, 3)),
    (nn.ZeroPad2d((1, 2, 0, 3)), (3, 4, 4)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "")
def test_every_layer_computes_the_same(layer: nn.Module, shape: tuple[int, ...], tmp_path: Path) -> None:
    program = capture(layer, [torch.randn(2, *shape)], input_names=["x"], output_names=["y"])
    artifact = export_onnx(program, tmp_path / "m.onnx")
    x = torch.randn(4, *shape) * 3
    assert np.allclose(outputs(artifact.path, program, x), program(x).detach(), atol=1e-4)
