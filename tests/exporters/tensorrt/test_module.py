"""Which calls are made to TensorRT's Python module, on a stand-in that writes them down.

It says nothing about whether TensorRT accepts them: that has never been tried (docs/targets.md).
"""

import enum
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
from onnx import TensorProto, helper

from edgepress.errors import ToolError, UserError
from edgepress.exporters.tensorrt import EngineOptions, Profile, build, build_engine, refit, refit_engine

BATCHES = Profile((1, 3), (8, 3), (32, 3))


class Flag(enum.IntEnum):
    VERSION_COMPATIBLE = 1
    REFIT = 2


class Config:
    def __init__(self, log: list) -> None:
        self.__dict__["log"] = log

    def __setattr__(self, name: str, value: object) -> None:
        self.log.append((name, value))

    def set_memory_pool_limit(self, pool: object, size: int) -> None:
        self.log.append(("pool", pool, size))

    def set_flag(self, flag: Flag) -> None:
        self.log.append(("flag", flag.name))

    def add_optimization_profile(self, profile: object) -> None:
        self.log.append(("profile", tuple(profile.shapes)))  # type: ignore[attr-defined]

    def create_timing_cache(self, content: bytes) -> SimpleNamespace:
        self.log.append(("cache from", content))
        return SimpleNamespace(serialize=lambda: b"timings")

    def set_timing_cache(self, cache: object, ignore_mismatch: bool) -> None:
        self.log.append(("mismatch", ignore_mismatch))


class ProfileOf:
    def __init__(self) -> None:
        self.shapes: list[tuple] = []

    def set_shape(self, *shapes: object) -> None:
        self.shapes.append(shapes)


class Builder:
    fails = False

    def __init__(self, log: list) -> None:
        self.log = log

    def create_network(self, flags: int) -> str:
        self.log.append(("network", flags))
        return "network"

    def create_builder_config(self) -> Config:
        return Config(self.log)

    def create_optimization_profile(self) -> ProfileOf:
        return ProfileOf()

    def build_serialized_network(self, network: object, config: object) -> bytes | None:
        return None if Builder.fails else b"plan"


class Engine:
    refittable = True

    def create_engine_inspector(self) -> SimpleNamespace:
        text = '{"Layers": [{"Name": "relu"}], "I/O Tensors": []}'
        return SimpleNamespace(get_engine_information=lambda form: text)

    def serialize(self) -> bytes:
        return b"new plan"


class Parser:
    """Of a model, or of new weights."""

    accepts, num_errors = True, 1

    def __init__(self, *_: object) -> None: ...

    def parse_from_file(self, path: str) -> bool:
        return Parser.accepts

    refit_from_file = parse_from_file

    def get_error(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(desc=lambda: "no such weight")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list:
    """What was called; the stand-in stands where the module would."""
    log: list = []
    severity = SimpleNamespace(ERROR=1, INTERNAL_ERROR=2)
    logger = type("ILogger", (), {"Severity": severity, "__init__": lambda self: None})
    runtime = type("Runtime", (), {"__init__": lambda s, _: None, "deserialize_cuda_engine": lambda s, _: Engine()})
    refitter = SimpleNamespace(refit_cuda_engine=lambda: log.append("refitted") or True)
    module = SimpleNamespace(
        __version__="stand-in", ILogger=logger, Builder=lambda _: Builder(log), Runtime=runtime, OnnxParser=Parser,
        OnnxParserRefitter=Parser, Refitter=lambda engine, log: refitter, BuilderFlag=Flag,
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=4),
        MemoryPoolType=SimpleNamespace(WORKSPACE="workspace"), LayerInformationFormat=SimpleNamespace(JSON="json"),
        ProfilingVerbosity=SimpleNamespace(DETAILED="detailed"),
        HardwareCompatibilityLevel=SimpleNamespace(AMPERE_PLUS="ampere+", SAME_COMPUTE_CAPABILITY="same"),
    )  # fmt: skip
    for room in (build, refit):
        monkeypatch.setattr(room, "import_runtime", lambda: module)
    monkeypatch.setattr(Builder, "fails", False)
    monkeypatch.setattr(Parser, "accepts", True)
    monkeypatch.setattr(Engine, "refittable", True)
    return log


@pytest.fixture
def relu(tmp_path: Path) -> Path:
    border = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", border[:1], border[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "relu.onnx")
    return tmp_path / "relu.onnx"


def test_every_option_reaches_the_builder(relu: Path, tmp_path: Path, calls: list) -> None:
    (tmp_path / "cache").write_bytes(b"old timings")
    options = EngineOptions(
        {"x": BATCHES}, workspace_mib=2, optimization_level=5, timing_cache=tmp_path / "cache",
        version_compatible=True, hardware="ampere+", refit=True,
    )  # fmt: skip
    artifact = build_engine(relu, tmp_path / "relu.engine", options)
    assert artifact.path.read_bytes() == b"plan" and artifact.layers == ({"Name": "relu"},)
    assert (tmp_path / "cache").read_bytes() == b"timings"
    assert calls == [
        ("network", 1 << 4), ("pool", "workspace", 2 << 20), ("builder_optimization_level", 5),
        ("profiling_verbosity", "detailed"), ("flag", "VERSION_COMPATIBLE"), ("flag", "REFIT"),
        ("hardware_compatibility_level", "ampere+"), ("profile", (("x", (1, 3), (8, 3), (32, 3)),)),
        ("cache from", b"old timings"), ("mismatch", False),
    ]  # fmt: skip


def test_a_build_that_fails_leaves_nothing(relu: Path, tmp_path: Path, calls: list, monkeypatch) -> None:
    monkeypatch.setattr(Builder, "fails", True)
    with pytest.raises(ToolError, match="could not build"):
        build_engine(relu, tmp_path / "relu.engine", EngineOptions({"x": BATCHES}))
    assert not (tmp_path / "relu.engine").exists()


def test_a_graph_that_cannot_be_parsed(relu: Path, tmp_path: Path, calls: list, monkeypatch) -> None:
    monkeypatch.setattr(Parser, "accepts", False)
    with pytest.raises(ToolError, match="cannot parse") as caught:
        build_engine(relu, tmp_path / "relu.engine", EngineOptions({"x": BATCHES}))
    assert caught.value.found == "no such weight"


def test_new_weights_for_an_engine(relu: Path, tmp_path: Path, calls: list) -> None:
    (tmp_path / "old.engine").write_bytes(b"plan")
    artifact = refit_engine(tmp_path / "old.engine", relu, tmp_path / "new.engine")
    assert artifact.path.read_bytes() == b"new plan" and calls == ["refitted"]


def test_weights_that_do_not_fit(relu: Path, tmp_path: Path, calls: list, monkeypatch) -> None:
    (tmp_path / "old.engine").write_bytes(b"plan")
    monkeypatch.setattr(Parser, "accepts", False)
    with pytest.raises(ToolError, match="do not fit the engine"):
        refit_engine(tmp_path / "old.engine", relu, tmp_path / "new.engine")
    monkeypatch.setattr(Engine, "refittable", False)
    with pytest.raises(UserError, match="cannot be refitted"):
        refit_engine(tmp_path / "old.engine", relu, tmp_path / "new.engine")
    with pytest.raises(UserError, match="no file"):
        refit_engine(tmp_path / "none.engine", relu, tmp_path / "new.engine")
