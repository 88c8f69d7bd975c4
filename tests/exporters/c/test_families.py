"""Networks of many families, quantized by edgepress for the C target, down to C: nothing stays float on the way."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgepress.exporters.c import Options, export
from edgepress.exporters.c.export import read_graph, reference
from edgepress.exporters.onnx import export_onnx
from edgepress.ir import Program, capture
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.targets.capability import load_capability
from edgepress.targets.emulate import deploy, why_not

NETWORKS = Path(__file__).resolve().parents[3] / "recipes" / "families" / "networks"


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, NETWORKS / f"{name}.py")
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


class Activations(nn.Module):
    """Every function of one value that becomes a table, written as networks write them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(12, 12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.hardswish(self.first(x))
        x = nn.functional.silu(x) - nn.functional.gelu(x) * 0.5
        return self.last(nn.functional.leaky_relu(x) + nn.functional.hardsigmoid(x)).sigmoid()


class Cells(nn.Module):
    """A bidirectional LSTM below two layers of GRU, and the GRU's last hidden state."""

    def __init__(self) -> None:
        super().__init__()
        self.below = nn.LSTM(5, 6, batch_first=True, bidirectional=True)
        self.above = nn.GRU(12, 7, num_layers=2, batch_first=True)
        self.head = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        _, last = self.above(self.below(x)[0])
        return self.head(last[-1])


class Sums(nn.Module):
    """Sums and means over axes, lengths, quotients, products that are repeated over axes, softmax over any axis."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3, padding=1)
        self.mixed = nn.Parameter(torch.randn(1, 3, 6, 6))
        self.last = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu()  # N, 6, H, W
        rows = x * x.sum(3, keepdim=True).sigmoid() - x.mean(2, keepdim=True)
        share = (x + 0.5) / (x.sum(1, keepdim=True) + 1.0)
        x = rows.softmax(1) + share * (rows**2).sum((1, 2), keepdim=True).sqrt()
        x = x.sum((2, 3)) / torch.sqrt((x * x).sum((1, 2, 3)) + 1e-3).unsqueeze(1)  # N, 6
        votes = torch.matmul(self.mixed, x[:, None, :, None]).squeeze(-1)  # N, 3, 6
        return self.last((votes.softmax(1) * votes).sum(1)) + votes.sum((1, 2)).tanh().unsqueeze(1)


FAMILIES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "activations": (Activations, (12,)),
    "cells": (Cells, (6, 5)),
    "lstm": (lambda: module("sequences").lstm(4, 8, 3), (10, 4)),
    "gru": (lambda: module("sequences").gru(4, 8, 3), (10, 4)),
    "tcn": (lambda: module("sequences").temporal_cnn(3, 4, 2, 5), (3, 12)),
    "detector": (lambda: module("detection").detector(16, 4, 2), (1, 16, 16)),
    "sums": (Sums, (2, 5, 4)),
    "capsules": (lambda: module("dense").capsules(8, 4, 3), (1, 8, 8)),
    "generator": (lambda: module("dense").generator(6, 4), (6,)),
    "unet": (lambda: module("images").unet(1, 4, 2), (1, 8, 8)),
    "encoder": (lambda: module("transformers").encoder(20, 6, 8, 2, 1, 3), (6,)),
    "decoder": (lambda: module("transformers").decoder(20, 6, 8, 2, 1), (6,)),
}


def example(name: str, shape: tuple[int, ...], count: int) -> Tensor:
    if name in ("encoder", "decoder"):
        return torch.randint(0, 20, (count, *shape))
    return torch.randn(count, *shape)


@pytest.fixture
def quantized() -> Callable[[str], tuple[Program, Tensor]]:
    """name -> the program with its quantization, and eight inputs."""

    def build(name: str) -> tuple[Program, Tensor]:
        torch.manual_seed(0)
        make, shape = FAMILIES[name]
        program = capture(make(), [example(name, shape, 2)], input_names=["x"])
        inputs = example(name, shape, 8)
        result = quantize(program, QuantOptions(), load_capability("mcu-c"), [(inputs,)])
        return result.program, inputs

    return build


def integers(manifest: dict[str, Any], inputs: Tensor) -> np.ndarray:
    """The inputs as the C takes them."""
    border = manifest["inputs"][0]
    if border["dtype"] == "int32":
        return inputs.numpy().astype(np.int32).view(np.int8)
    last = inputs.movedim(1, -1) if border["channels_last"] else inputs
    flat = last.reshape(len(inputs), -1).double().numpy()
    return np.clip(np.rint(flat / border["scale"]) + border["zero_point"], -128, 127).astype(np.int8)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_becomes_c(
    name: str, quantized: Callable[[str], tuple[Program, Tensor]], host_runner: Any, tmp_path: Path
) -> None:
    program, inputs = quantized(name)
    path = tmp_path / "model.onnx"
    export_onnx(program, path)
    artifact = export(path, tmp_path / "c", options=Options(target="host", golden=1))
    rows = integers(artifact.manifest, inputs)
    graph = read_graph(path)
    expected = np.stack([reference(graph, row) for row in rows])
    np.testing.assert_array_equal(host_runner(artifact)(rows), expected)
    border = artifact.manifest["outputs"][0]
    ours = (expected[:, : border["bytes"]].astype(float) - border["zero_point"]) * border["scale"]
    with torch.no_grad():
        theirs = program.exported.module()(inputs)
    theirs = theirs[0] if isinstance(theirs, tuple | list) else theirs
    # Recurrent weights and masks are quantized in the exporter, scales become fixed point: a few steps of the output.
    assert np.abs(ours - theirs.reshape(len(inputs), -1).double().numpy()).max() <= 6 * border["scale"]


@pytest.mark.emulator
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m0", "cortex-m55"])
@pytest.mark.parametrize("name", ["cells", "encoder", "sums"])
def test_a_family_runs_on_a_core(
    name: str, core: str, quantized: Callable[[str], tuple[Program, Tensor]], tmp_path: Path
) -> None:
    if reason := why_not(core):
        pytest.skip(reason)
    program, inputs = quantized(name)
    path = tmp_path / "model.onnx"
    export_onnx(program, path)
    artifact = export(path, tmp_path / "c", options=Options(target=core, golden=1))
    rows = integers(artifact.manifest, inputs)
    graph = read_graph(path)
    expected = np.stack([reference(graph, row) for row in rows])
    found = deploy(tmp_path / "c", rows)
    np.testing.assert_array_equal(found.outputs, expected)
    if found.stack_bound_bytes is not None:
        assert found.stack_bytes <= found.stack_bound_bytes
