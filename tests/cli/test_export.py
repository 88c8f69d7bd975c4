"""`edgepress export` as a user calls it: every format of a small program, conversion of ONNX files, refusals."""

import json
from pathlib import Path
from subprocess import CompletedProcess

import onnx
import pytest
import torch
from tests.small_networks import residual

from edgepress.exporters.onnx import export_onnx
from edgepress.ir import Program, capture, save
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.targets.capability import load_capability

__all__ = ["residual"]


@pytest.fixture
def program(residual: Program, tmp_path: Path) -> Path:
    save(residual, tmp_path / "program")
    return tmp_path / "program"


def test_onnx_in_16_bits(edgepress, program: Path, tmp_path: Path) -> None:
    out = tmp_path / "half.onnx"
    done = edgepress("export", program, "--out", out, "--precision", "float16", "--keep-op", "Gemm", "--batch", "2")
    assert done.returncode == 0, done.stderr
    assert "stays float32: Gemm making logits: Gemm is kept float" in done.stdout
    model = onnx.load(out)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2
    assert {p.key for p in model.metadata_props} == {"edgepress", "program"}


def test_an_onnx_file_into_other_formats(edgepress, program: Path, tmp_path: Path) -> None:
    assert edgepress("export", program, "--out", tmp_path / "m.onnx").returncode == 0
    for form, name, written in (("openvino", "m.xml", ["m.xml", "m.bin"]), ("ort", "m.ort", ["m.ort"])):
        done = edgepress("export", tmp_path / "m.onnx", "--format", form, "--out", tmp_path / name)
        assert done.returncode == 0, done.stderr
        assert [Path(line.split(":")[0]).name for line in done.stdout.splitlines()] == written


def test_pt2_is_measured_on_torch(edgepress, program: Path, tmp_path: Path) -> None:
    assert edgepress("export", program, "--format", "pt2", "--out", tmp_path / "m.pt2").returncode == 0
    assert edgepress("export", program, "--out", tmp_path / "m.onnx").returncode == 0
    done = edgepress(
        "measure", tmp_path / "m.onnx", tmp_path / "m.pt2", "--target", "local-cpu", "--target", "torch-eager",
        "--parity", "--json", "--runs", "5", "--cold-starts", "0", "--no-energy", "--batch", "4",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [hop["second"] for hop in told["parity"]] == ["m.onnx on local-cpu", "m.pt2 on torch-eager"]
    targets = {
        name: {m["target"] for m in rows if m["name"] == "latency_ms"} for name, rows in told["artifacts"].items()
    }
    assert targets == {"m.onnx": {"local-cpu"}, "m.pt2": {"torch-eager"}}


@pytest.mark.parametrize(
    ("flags", "words", "code"),
    [
        (["--format", "tflite"], "cannot export to tflite", 2),
        (["--precision", "int4"], "no such precision", 2),
        (["--format", "pt2", "--precision", "float16"], "no 16-bit form", 2),
        (["--format", "tensorrt"], "trtexec", 4),
    ],
)
def test_refusals(edgepress, program: Path, tmp_path: Path, flags: list[str], words: str, code: int) -> None:
    done = edgepress("export", program, "--out", tmp_path / "m.out", *flags)
    assert done.returncode == code
    assert words in done.stderr


class Spotter(torch.nn.Module):
    """An LSTM that is fed one step at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = torch.nn.LSTM(6, 8, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.cell(x)[0]


def test_c_that_keeps_its_state(edgepress, tmp_path: Path) -> None:
    torch.manual_seed(0)
    done = _export_c(edgepress, Spotter(), (1, 1, 6), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "void step_reset(void *arena);" in (tmp_path / "c" / "step.h").read_text()
    assert "step_reset(arena)" in (tmp_path / "c" / "README.md").read_text()
    refused = _export_c(edgepress, torch.nn.Linear(6, 8), (1, 6), tmp_path)
    assert refused.returncode == 2
    assert "no state to keep" in refused.stderr


def _export_c(edgepress, network: torch.nn.Module, shape: tuple[int, ...], folder: Path) -> CompletedProcess[str]:
    batches = [(torch.randn(shape),) for _ in range(4)]
    quantized = quantize(
        capture(network, batches[0], dynamic_batch=False), QuantOptions(), load_capability("mcu-c"), batches
    ).program
    export_onnx(quantized, folder / "step.onnx")
    options = ("--format", "c", "--core", "host", "--name", "step", "--keep-state", "--out", folder / "c")
    return edgepress("export", folder / "step.onnx", *options)
