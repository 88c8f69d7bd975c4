"""One program in every format, and the file that each target runs."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edgepress.errors import UserError
from edgepress.exporters.formats import FILES, WriteOptions, convert, engine_options, format_of, write_files, write_one
from edgepress.exporters.onnx import OnnxOptions, export_onnx
from edgepress.exporters.onnx_graph import size_name
from edgepress.exporters.tensorrt import EngineOptions, Profile
from edgepress.ir import Program
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.targets import load, ready_made
from edgepress.targets.capability import Capability
from edgepress.targets.runtimes import open_session

TARGETS = {"onnx": "local-cpu", "ort": "local-cpu", "pt2": "torch-eager"}


def test_every_ready_made_target_has_a_format() -> None:
    formats = {name: format_of(load(name)) for name in ready_made()}
    assert formats["local-cpu"] == formats["jetson-orin"] == "onnx"
    assert formats["openvino-cpu"] == "openvino" and formats["tensorrt"] == "tensorrt"
    assert formats["torch-eager"] == formats["torch-compile"] == "pt2" and formats["torch-aot"] == "aot"
    assert formats["cortex-m4"] == "c"


@pytest.mark.parametrize("kind", ["onnx", "ort", "pt2"])
def test_every_format_computes_the_same(kind: str, residual: Program, images: torch.Tensor, tmp_path: Path) -> None:
    files = write_files(residual, tmp_path, [kind])
    session = open_session(files.paths[kind], load(TARGETS[kind]))
    assert session.input_names == ("image",) and session.output_names == ("logits",)
    assert np.allclose(session.run({"image": images.numpy()})[0], residual(images), atol=1e-5)


def test_a_quantized_program_as_an_archive(
    residual: Program, images: torch.Tensor, x86: Capability, tmp_path: Path
) -> None:
    program = quantize(residual, QuantOptions(), x86, [(images,)]).program
    write_one(program, tmp_path / "q.pt2", "pt2")
    answer = open_session(tmp_path / "q.pt2", load("torch-eager")).run({"image": images.numpy()})[0]
    assert np.allclose(answer, program(images), atol=1e-5)


@pytest.mark.parametrize("kind", ["onnx", "pt2"])  # onnxruntime writes .ort files in an order of its own
def test_equal_programs_give_equal_bytes(kind: str, residual: Program, tmp_path: Path) -> None:
    for name in "ab":
        write_one(residual, tmp_path / name / FILES[kind], kind)
    assert (tmp_path / "a" / FILES[kind]).read_bytes() == (tmp_path / "b" / FILES[kind]).read_bytes()


def test_openvino_files_come_in_pairs(residual: Program, images: torch.Tensor, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    files = write_files(residual, tmp_path, ["openvino"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.bin", "model.onnx", "model.xml"]
    answer = open_session(files.paths["openvino"], load("openvino-cpu")).run({"image": images.numpy()})[0]
    assert np.allclose(answer, residual(images), atol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="AOTInductor needs a C++ compiler")
def test_machine_code(residual: Program, images: torch.Tensor, tmp_path: Path) -> None:
    write_one(residual, tmp_path / "m.pt2", "aot")
    session = open_session(tmp_path / "m.pt2", load("torch-aot"))
    assert np.allclose(session.run({"image": images.numpy()})[0], residual(images), atol=1e-4)


def test_a_fixed_batch(residual: Program, images: torch.Tensor, tmp_path: Path) -> None:
    write_one(residual, tmp_path / "m.onnx", "onnx", WriteOptions(OnnxOptions(batch=3)))
    session = open_session(tmp_path / "m.onnx", load("local-cpu"))
    assert session.input_specs["image"].shape == (3, 3, 8, 8)
    assert np.allclose(session.run({"image": images[:3].numpy()})[0], residual(images[:3]), atol=1e-5)


def test_an_engine_gets_a_profile_for_a_free_batch(residual: Program, tmp_path: Path) -> None:
    write_one(residual, tmp_path / "free.onnx", "onnx")
    options = WriteOptions(best_batch=4, most_batch=32)
    shapes = ((1, 3, 8, 8), (4, 3, 8, 8), (32, 3, 8, 8))
    assert engine_options(tmp_path / "free.onnx", options).profiles == {"image": Profile(*shapes)}
    given = {"image": Profile((2, 3, 8, 8), (2, 3, 8, 8), (2, 3, 8, 8))}
    own = WriteOptions(engine=EngineOptions(profiles=given))
    assert engine_options(tmp_path / "free.onnx", own).profiles == given
    write_one(residual, tmp_path / "fixed.onnx", "onnx", WriteOptions(OnnxOptions(batch=2)))
    assert engine_options(tmp_path / "fixed.onnx", options).profiles == {}


def test_names_of_sizes_are_the_same_in_every_process() -> None:
    free = {"s0": "batch", "s01": "time"}
    assert [size_name(size, free) for size in ("s0", "s01")] == ["batch", "time"]
    assert size_name("2*s0", free) == size_name("2*s7", {"s7": "batch"}) == "size_3a8ee89c"


def test_what_a_file_says_about_its_making(residual: Program, tmp_path: Path) -> None:
    metadata = {"program": residual.digest()}
    artifact = export_onnx(residual, tmp_path / "m.onnx", options=OnnxOptions(metadata=metadata))
    assert {p.key: p.value for p in onnx.load(artifact.path).metadata_props} == metadata
    assert artifact.manifest["program"] == residual.digest() and artifact.manifest["precision"] == "float32"


def test_unknown_conversions_and_endings(residual: Program, tmp_path: Path) -> None:
    write_one(residual, tmp_path / "m.onnx", "onnx")
    with pytest.raises(UserError, match="cannot make pt2"):
        convert(tmp_path / "m.onnx", tmp_path / "m.pt2", "pt2")
    with pytest.raises(UserError, match=r"an \.ort file"):
        convert(tmp_path / "m.onnx", tmp_path / "m.bin", "ort")
    with pytest.raises(UserError, match="no ONNX file"):
        convert(tmp_path / "none.onnx", tmp_path / "m.ort", "ort")
