"""A network whose weights no protobuf message can carry."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgepress.exporters.onnx import export_onnx
from edgepress.ir import capture

WIDTH, LAYERS = 8192, 9  # 2.4 GB


class Tower(nn.Module):
    """Square layers that differ by a factor each, so that no two are stored as one."""

    def __init__(self) -> None:
        super().__init__()
        first = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(0)) / WIDTH**0.5
        self.weights = nn.ParameterList(first * (1 + i / 64) for i in range(LAYERS))

    def forward(self, x: Tensor) -> Tensor:
        for weight in self.weights:
            x = torch.tanh(x @ weight)
        return x


@pytest.mark.slow
def test_weights_over_2_gb_lie_beside_the_file_and_run(tmp_path: Path) -> None:
    if _available() < 10e9 or shutil.disk_usage(tmp_path).free < 4e9:
        pytest.skip("needs 10 GB of memory and 4 GB of disk")
    import onnxruntime

    program = capture(Tower().eval(), [torch.randn(2, WIDTH)])
    artifact = export_onnx(program, tmp_path / "tower.onnx")
    assert (tmp_path / "tower.onnx.data").stat().st_size > 2**31
    assert artifact.path.stat().st_size < 100_000
    x = torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(1))
    expected = program.module()(x).detach().numpy()
    del program  # onnxruntime wants room of its own
    session = onnxruntime.InferenceSession(artifact.path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(found, expected, atol=1e-4)


def _available() -> float:
    """Bytes of memory that could be had; none where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
