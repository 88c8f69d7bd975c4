"""Building engines where TensorRT is not: what is refused before it is called, and the command that is run instead."""

import json
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from edgepress.errors import MissingTool, ToolError, UserError
from edgepress.exporters.tensorrt import EngineOptions, Profile, build_engine
from edgepress.exporters.tensorrt.trtexec import command

try:
    import tensorrt  # noqa: F401

    HERE = True
except ImportError:
    HERE = False
without_tensorrt = pytest.mark.skipif(HERE, reason="the tensorrt module is here and comes first")
BATCHES = Profile((1, 3), (8, 3), (32, 3))


@pytest.fixture
def relu(tmp_path: Path) -> Path:
    return network(tmp_path / "relu.onnx", "Relu")


def network(path: Path, op: str) -> Path:
    graph = helper.make_graph(
        [helper.make_node(op, ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def test_the_command_says_everything() -> None:
    options = EngineOptions(
        profiles={"x": BATCHES, "z": Profile((1,), (1,), (1,))}, workspace_mib=256, optimization_level=5,
        timing_cache=Path("t.cache"), version_compatible=True, hardware="ampere+", refit=True,
    )  # fmt: skip
    assert command(Path("m.onnx"), Path("m.engine"), options, Path("l.json")) == [
        "trtexec", "--onnx=m.onnx", "--saveEngine=m.engine", "--stronglyTyped", "--skipInference",
        "--memPoolSize=workspace:256", "--builderOptimizationLevel=5", "--profilingVerbosity=detailed",
        "--exportLayerInfo=l.json", "--minShapes=x:1x3,z:1", "--optShapes=x:8x3,z:1", "--maxShapes=x:32x3,z:1",
        "--timingCacheFile=t.cache", "--versionCompatible", "--hardwareCompatibilityLevel=ampere+", "--refit",
    ]  # fmt: skip


def test_the_default_command_names_no_number_format() -> None:
    """Precision flags are gone in TensorRT 11: the types are in the graph."""
    flags = {part.split("=")[0] for part in command(Path("m"), Path("e"), EngineOptions(), Path("l"))}
    assert not flags & {"--fp16", "--int8", "--bf16", "--fp8", "--best", "--calib"}


@pytest.mark.parametrize("settings", [{"optimization_level": 6}, {"workspace_mib": 0}])
def test_settings_out_of_range(settings: dict[str, int]) -> None:
    with pytest.raises(UserError, match="out of range"):
        EngineOptions(**settings)


def test_a_missing_profile_is_told_before_anything_is_built(relu: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"TensorRT would reject relu\.onnx: x") as caught:
        build_engine(relu, tmp_path / "relu.engine")
    assert caught.value.fix == "give profiles"


def test_a_rejected_operator_is_told_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        build_engine(network(tmp_path / "a.onnx", "Unique"), tmp_path / "a.engine", EngineOptions({"x": BATCHES}))
    assert caught.value.found == "Unique" and "capability table" in caught.value.fix


@without_tensorrt
def test_neither_module_nor_program(relu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingTool, match="tensorrt or trtexec"):
        build_engine(relu, tmp_path / "relu.engine", EngineOptions({"x": BATCHES}))


def program(folder: Path, text: str) -> None:
    """A `trtexec` that is a Python script."""
    folder.mkdir()
    file = folder / "trtexec"
    file.write_text(f"#!{sys.executable}\nimport json, sys\n{text}")
    file.chmod(0o755)


@without_tensorrt
def test_the_program_builds_where_the_module_is_missing(relu: Path, tmp_path: Path, monkeypatch) -> None:
    layers = {"Layers": [{"Name": "relu", "LayerType": "PointWise"}]}
    program(
        tmp_path / "bin",
        "flags = dict(part.lstrip('-').split('=', 1) for part in sys.argv[1:] if '=' in part)\n"
        "open(flags['saveEngine'], 'wb').write(b'engine')\n"
        f"open(flags['exportLayerInfo'], 'w').write({json.dumps(layers)!r})\n",
    )
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    artifact = build_engine(relu, tmp_path / "out/relu.engine", EngineOptions({"x": BATCHES}))
    assert artifact.path.read_bytes() == b"engine"
    assert artifact.layers == tuple(layers["Layers"])
    assert artifact.findings == ()
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["relu.engine"]


@without_tensorrt
def test_a_program_that_fails(relu: Path, tmp_path: Path, monkeypatch) -> None:
    program(
        tmp_path / "bin", "print('[I] starting')\nprint('[E] Error[2]: no tactic')\nprint('&&&& FAILED')\nsys.exit(1)\n"
    )
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(ToolError, match="could not build") as caught:
        build_engine(relu, tmp_path / "relu.engine", EngineOptions({"x": BATCHES}))
    assert caught.value.found == "[E] Error[2]: no tactic"
    assert not (tmp_path / "relu.engine").exists()
