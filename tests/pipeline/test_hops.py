"""Hops of one program: the reference, a runtime, and what is told where one is missing."""

from pathlib import Path

import numpy as np
import torch
from tests.small_networks import images, residual
from torch import nn

from edgepress.exporters.formats import WriteOptions, write_files
from edgepress.exporters.onnx import OnnxOptions
from edgepress.exporters.onnx_half import KeepFloat
from edgepress.ir import Program, capture
from edgepress.measure.record import Parity
from edgepress.pipeline import hops as module
from edgepress.pipeline.hops import fixed_batch, hops, run_program, run_session
from edgepress.targets import load
from edgepress.targets.runtimes import open_session

__all__ = ["images", "residual"]


def found(program: Program, onnx: Path, inputs: torch.Tensor) -> tuple[list[Parity], list[str]]:
    target, notes = load("local-cpu"), list[str]()
    session = open_session(onnx, target)
    result = hops(
        "it", program, onnx, session, target, [inputs], classes=True, with_reference=True, note=notes.append
    )  # fmt: skip
    return list(result), notes


def test_reference_and_runtime(residual: Program, images: torch.Tensor, tmp_path: Path) -> None:
    (onnx,) = write_files(residual, tmp_path, ["onnx"]).paths.values()
    parities, notes = found(residual, onnx, images)
    assert [p.second for p in parities] == ["it by the ONNX reference", "it on local-cpu"]
    assert [p.n for p in parities] == [module.REFERENCE_SAMPLES, len(images)]
    assert all(p.max_abs < 1e-5 and p.flip_rate == 0 and p.first_divergent_layer == "" for p in parities)
    assert notes == []


def test_16_bits_differ_from_the_first_layer_on(residual: Program, images: torch.Tensor, tmp_path: Path) -> None:
    options = WriteOptions(OnnxOptions(precision="float16", keep=KeepFloat(borders=False)))
    (onnx,) = write_files(residual, tmp_path, ["onnx"], options).paths.values()
    session = open_session(onnx, load("local-cpu"))
    (half,) = run_session(session, [images])  # fed in the format that it takes
    (whole,) = run_program(residual, [images])
    assert half.dtype == np.float16 and np.abs(half - whole).max() < 0.01


def test_a_tampered_layer_is_named(residual: Program, images: torch.Tensor, tmp_path: Path) -> None:
    import onnx

    (path,) = write_files(residual, tmp_path, ["onnx"]).paths.values()
    model = onnx.load(path)
    weight = next(t for t in model.graph.initializer if t.name == "outer.weight")
    weight.raw_data = (np.frombuffer(weight.raw_data, np.float32) * 1.5).tobytes()
    onnx.save(model, path)
    parities, _ = found(residual, path, images)
    assert [p.first_divergent_layer for p in parities] == ["conv2d_2", "conv2d_2"]


def test_a_fixed_batch_is_filled_up_and_has_no_reference(tmp_path: Path) -> None:
    program = capture(nn.Linear(3, 2), [torch.randn(4, 3)], dynamic_batch=False)
    (onnx,) = write_files(program, tmp_path, ["onnx"]).paths.values()
    assert fixed_batch(open_session(onnx, load("local-cpu"))) == 4
    parities, notes = found(program, onnx, torch.randn(6, 3))
    assert [(p.second, p.n) for p in parities] == [("it on local-cpu", 6)]
    assert notes == ["it by the ONNX reference: left out, its batch is fixed"]


def test_a_network_too_large_for_the_reference(residual: Program, images: torch.Tensor, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "MOST_REFERENCE_MACS", 10)
    (onnx,) = write_files(residual, tmp_path, ["onnx"]).paths.values()
    parities, notes = found(residual, onnx, images)
    assert len(parities) == 1 and notes == ["it by the ONNX reference: left out, too large for it"]
