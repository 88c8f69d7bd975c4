from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from edgepress.exporters.onnx import export_onnx
from edgepress.ir import Program, capture
from edgepress.quantize.integer_reference import run_integers
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.targets.capability import Capability


def runtime(program: Program, x: torch.Tensor, folder: Path) -> np.ndarray:
    path = export_onnx(program, folder / "m.onnx").path
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {program.input_names[0]: x.numpy()})[0]


def fused(folder: Path) -> bool:
    kinds = {n.op_type for n in onnx.load(folder / "optimized.onnx").graph.node}
    return "QLinearConv" in kinds


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("seed", range(3))
def test_onnxruntime_computes_the_same_bits(
    residual: Program, images: torch.Tensor, x86: Capability, tmp_path: Path, seed: int, bits: int
) -> None:
    program = quantize(residual, QuantOptions(weight_bits=bits), x86, [(images,)]).program
    x = torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2
    found = runtime(program, x, tmp_path)
    assert fused(tmp_path)
    assert np.array_equal(found, run_integers(program, (x,))[0].numpy())


class Depthwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 8, 1)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.deep(torch.relu(self.wide(x))))


def test_depthwise_layers_and_an_integer_output(x86: Capability, images: torch.Tensor, tmp_path: Path) -> None:
    torch.manual_seed(0)
    program = capture(Depthwise(), [torch.randn(2, 3, 8, 8)], input_names=["x"])
    quantized = quantize(program, QuantOptions(), x86, [(images,)]).program
    found = runtime(quantized, images, tmp_path)
    assert fused(tmp_path)
    assert np.array_equal(found, run_integers(quantized, (images,))[0].numpy())


def test_float_programs_run_as_they_are(residual: Program, images: torch.Tensor) -> None:
    assert torch.allclose(run_integers(residual, (images,))[0], residual(images), atol=1e-6)
