"""Real networks: they import, match onnxruntime sample by sample and in a batch, and train."""

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from edgepress.importers.onnx import load

FILES = Path(__file__).resolve().parents[3] / "benchmarks" / "onnx_import" / "files.py"


def real_files() -> list[Path]:
    root = Path(os.environ.get("EDGEPRESS_DATA", "."))
    return sorted([*root.glob("onnx/*.onnx"), *root.glob("mlperf_tiny/onnx/*.onnx")])


@pytest.fixture(scope="module")
def files() -> Iterator[ModuleType]:
    sys.path.insert(0, str(FILES.parent))  # it reads two files beside it
    spec = importlib.util.spec_from_file_location("onnx_files", FILES)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["onnx_files"] = module
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(FILES.parent))


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("path", real_files(), ids=lambda path: path.stem)
def test_a_real_file_matches_onnxruntime(path: Path, files: ModuleType) -> None:
    result = files.try_file(path)
    assert result.imports, result.reason
    assert result.matches, result.reason
    assert result.parameters > 0
    assert result.quantized.done, result.quantized.reason
    states_are_inputs = path.stem.startswith("dtln")  # every width of it is one of an input or an output
    assert result.pruned.done is not states_are_inputs, result.pruned.reason


@pytest.mark.data
@pytest.mark.parametrize("name", ["onnx/mnist_cntk", "onnx/go1_policy", "mlperf_tiny/onnx/alibaba_kws"])
def test_a_real_file_trains(name: str, data_dir: Path) -> None:
    """Ten steps towards other outputs lower the loss."""
    program = load(data_dir / f"{name}.onnx")
    assert program.dynamic_batch()
    module = program.trainable()
    shape = program.example_inputs[0].shape
    inputs = torch.randn(8, *shape[1:], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        targets = program(inputs)[0] + 1.0
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    losses = []
    for _ in range(10):
        loss = (module(inputs)[0] - targets).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
