"""Layers of `exporters.onnx_layers`: our own translation computes in onnxruntime what PyTorch does."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from tests.small_networks import Apply
from torch import Tensor, nn

from edgepress.exporters.onnx import export_onnx
from edgepress.ir import capture
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.targets.capability import load_capability

CASES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "glu": (nn.GLU(1), (6, 4)),
    "selu": (nn.SELU(), (5,)),
    "celu": (nn.CELU(0.7), (5,)),
    "hard shrink": (nn.Hardshrink(0.3), (9,)),
    "soft shrink": (nn.Softshrink(0.3), (9,)),
    "threshold": (nn.Threshold(0.1, 2.0), (9,)),
    "log sigmoid": (nn.LogSigmoid(), (9,)),
    "clamp from below": (Apply(lambda x: x.clamp(min=0.5)), (9,)),
    "clamp from above": (Apply(lambda x: x.clamp(max=0.5)), (9,)),
    "log1p": (Apply(lambda x: torch.log1p(x.abs())), (9,)),
    "expm1": (Apply(torch.expm1), (9,)),
    "floor division": (Apply(lambda x: x // 0.4), (9,)),
    "remainder": (Apply(lambda x: x % 0.4), (9,)),
    "remainder by tensors": (Apply(lambda x: x % (x.abs() + 0.3)), (9,)),
    "floor division of integers": (Apply(lambda x: ((x * 9).int() // 4).float()), (9,)),
    "remainder of integers": (Apply(lambda x: ((x * 9).int() % -4).float()), (9,)),
    "remainder as in C": (Apply(lambda x: x.fmod(0.4)), (9,)),
    "scatter": (Apply(lambda x: torch.zeros_like(x).scatter(1, x.argsort(1), x * 2)), (6,)),
    "scatter one number": (Apply(lambda x: x.scatter(1, x.argsort(1)[:, :3], 0.5)), (6,)),
    "scatter sums": (Apply(lambda x: torch.zeros_like(x).scatter_add(1, x.argsort(1) // 2, x)), (6,)),
    "scatter products": (Apply(lambda x: x.scatter_reduce(1, x.argsort(1) // 2, x, "prod")), (6,)),
    "addcmul": (Apply(lambda x: torch.addcmul(x, x, x, value=0.3)), (9,)),
    "einsum": (Apply(lambda x: torch.einsum("bij,bkj->bik", x, x)), (4, 5)),
    "any": (Apply(lambda x: (x > 1).any(-1).float()), (9,)),
    "variance": (Apply(lambda x: x.var(-1)), (4, 5)),
    "biased variance": (Apply(lambda x: x.var((1, 2), correction=0, keepdim=True)), (4, 5)),
    "deviation": (Apply(lambda x: x.std(1, keepdim=True)), (4, 5)),
    "pooling volumes": (nn.MaxPool3d(2), (3, 4, 4, 4)),
    "transposed volumes": (nn.ConvTranspose3d(3, 4, 3, stride=2), (3, 4, 4, 4)),
    "global average of sequences": (nn.AdaptiveAvgPool1d(1), (3, 8)),
    "average of parts of sequences": (nn.AdaptiveAvgPool1d(4), (3, 8)),
    "average of volumes": (nn.AdaptiveAvgPool3d(1), (3, 4, 4, 4)),
    "average over height alone": (nn.AdaptiveAvgPool2d((1, None)), (3, 4, 6)),
    "channel shuffle": (nn.ChannelShuffle(2), (4, 3, 3)),
    "pixel unshuffle": (nn.PixelUnshuffle(2), (3, 4, 6)),
    "roll": (Apply(lambda x: x.roll((1, -2), (1, 2))), (4, 5)),
    "lower triangle": (Apply(lambda x: x.tril()), (5, 5)),
    "upper triangle": (Apply(lambda x: x.triu(1)), (5, 5)),
    "repeated elements": (Apply(lambda x: x.repeat_interleave(2, -1)), (4, 5)),
    "swapped axes": (Apply(lambda x: x.swapaxes(1, 2)), (4, 5)),
    "expand as": (Apply(lambda x: F.normalize(x, dim=-1)), (4, 5)),
    "nearest, sequences": (nn.Upsample(scale_factor=3), (3, 6)),
    "nearest, images": (nn.Upsample(size=(7, 9)), (3, 3, 4)),
    "nearest, volumes": (nn.Upsample(scale_factor=2), (2, 3, 3, 3)),
    "linear": (nn.Upsample(scale_factor=2, mode="linear"), (3, 6)),
    "bilinear": (nn.Upsample(scale_factor=2, mode="bilinear"), (3, 4, 5)),
    "bilinear by one and a half": (nn.Upsample(scale_factor=1.5, mode="bilinear"), (3, 4, 6)),
    "bilinear, corners aligned": (nn.Upsample(size=(7, 7), mode="bilinear", align_corners=True), (3, 4, 4)),
    "bicubic": (nn.Upsample(scale_factor=2, mode="bicubic"), (3, 4, 5)),
    "trilinear": (nn.Upsample(scale_factor=2, mode="trilinear"), (2, 3, 4, 3)),
}


def answers(path: Path, x: Tensor) -> np.ndarray:
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x.numpy()})[0]


@pytest.mark.parametrize("name", CASES)
def test_a_layer_computes_the_same(name: str, tmp_path: Path) -> None:
    layer, shape = CASES[name]
    program = capture(layer, [torch.randn(2, *shape)], input_names=["x"], output_names=["y"])
    artifact = export_onnx(program, tmp_path / "m.onnx")
    assert artifact.manifest["exporter"] == "edgepress"
    x = torch.randn(3, *shape)
    np.testing.assert_allclose(answers(artifact.path, x), program(x).detach(), rtol=1e-4, atol=1e-4)


def test_what_falls_to_torch_keeps_the_opset(tmp_path: Path) -> None:
    program = capture(nn.Unfold(2), [torch.randn(2, 3, 4, 4)], input_names=["x"])
    export_onnx(program, tmp_path / "m.onnx", opset=21)
    versions = {one.domain: one.version for one in onnx.load(tmp_path / "m.onnx").opset_import}
    assert versions[""] == 21


class NamedAsInside(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.unfold(x, 2).relu().mean(1)


def test_an_output_may_have_a_name_that_torch_uses_inside(tmp_path: Path) -> None:
    program = capture(NamedAsInside(), [torch.randn(2, 3, 4, 4)], input_names=["x"], output_names=["relu"])
    artifact = export_onnx(program, tmp_path / "m.onnx")
    assert "torch.onnx" in str(artifact.manifest["exporter"])
    x = torch.randn(3, 3, 4, 4)
    np.testing.assert_allclose(answers(artifact.path, x), program(x).detach(), rtol=1e-4, atol=1e-4)


class Sides(nn.Module):
    """A box side as the mean of a distribution over 16 places, between convolutions: the head of a detector."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.box, self.mean = nn.Conv2d(3, 64, 1), nn.Conv2d(16, 1, 1, bias=False)
        self.mean.weight.data[:] = torch.arange(16.0).view(1, 16, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        sides = self.box(x).flatten(2).view(x.shape[0], 4, 16, -1).transpose(2, 1).softmax(1)
        return self.mean(sides)


def test_a_softmax_that_was_left_float_is_computed_so(tmp_path: Path) -> None:
    """onnxruntime moves the grids through transpositions and takes a coarse table for the softmax between them."""
    program = capture(Sides(), [torch.rand(2, 3, 6, 6)], input_names=["x"], output_names=["y"])
    batches = [(torch.rand(4, 3, 6, 6),) for _ in range(4)]
    quantized = quantize(program, QuantOptions(), load_capability("onnxruntime-x86"), batches).program
    path = export_onnx(quantized, tmp_path / "m.onnx").path
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    kinds = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert "Softmax" in kinds and "QLinearSoftmax" not in kinds and "QLinearConv" in kinds
    x = torch.rand(3, 3, 6, 6)
    np.testing.assert_allclose(answers(path, x), quantized(x).detach(), atol=0.15)
