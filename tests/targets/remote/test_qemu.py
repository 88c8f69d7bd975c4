"""AArch64 in emulation: the real instruction set's answers, and no word about time.

Needs `python scripts/arm64_tree.py` once (or EDGEPRESS_ARM64) and qemu-user-static; `make arm64` does both.
"""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepress import targets
from edgepress.errors import MissingTool, UserError
from edgepress.measure.latency import compare_latency
from edgepress.measure.memory import measure_cold_start
from edgepress.targets.readiness import lacks
from edgepress.targets.runtimes import open_session

SAMPLES = 64


@pytest.fixture
def emulated() -> targets.Target:
    target = targets.load("arm64-qemu")
    if lacks(target):
        pytest.skip("; ".join(lack.what for lack in lacks(target)))
    return target


def network(path: Path, quantized: bool) -> Path:
    """A convolution, ReLU, pooling and a classifier; in int8 with Q/DQ pairs, signed and per channel, or in float."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(16, 3, 3, 3)).astype(np.float32) / 5
    dense = rng.normal(size=(16, 10)).astype(np.float32)
    constants = {"dense": dense}
    if quantized:
        scale = np.abs(weight).max(axis=(1, 2, 3)) / 127
        constants |= {
            "wq": np.clip(np.round(weight / scale[:, None, None, None]), -127, 127).astype(np.int8),
            "ws": scale.astype(np.float32), "wz": np.zeros(16, np.int8),
            "xs": np.float32(0.03), "ys": np.float32(0.05), "z": np.int8(0),
        }  # fmt: skip
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "xs", "z"], ["xq"]),
            helper.make_node("DequantizeLinear", ["xq", "xs", "z"], ["xd"]),
            helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["wd"], axis=0),
            helper.make_node("Conv", ["xd", "wd"], ["c"]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("QuantizeLinear", ["r", "ys", "z"], ["rq"]),
            helper.make_node("DequantizeLinear", ["rq", "ys", "z"], ["f"]),
        ]
    else:
        constants["w"] = weight
        nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["f"])]
    nodes += [
        helper.make_node("GlobalAveragePool", ["f"], ["p"]),
        helper.make_node("Flatten", ["p"], ["v"]),
        helper.make_node("MatMul", ["v", "dense"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.mark.slow
@pytest.mark.emulator
@pytest.mark.parametrize("core", ["cortex-a53", "cortex-a76"])
def test_float_and_int8_predict_as_they_do_here(core: str, emulated: targets.Target, tmp_path: Path) -> None:
    """With and without dot-product instructions."""
    emulated = emulated.model_copy(update={"device": core})
    x = np.random.default_rng(1).normal(size=(SAMPLES, 3, 16, 16)).astype(np.float32)
    for quantized in (False, True):
        path = network(tmp_path / f"{quantized}.onnx", quantized)
        there, here = open_session(path, emulated), open_session(path, targets.load("local-cpu"))
        ours, theirs = here.run({"x": x})[0], there.run({"x": x})[0]
        there.close()
        assert "aarch64" in there.describe()
        assert (ours.argmax(1) == theirs.argmax(1)).all()
        assert np.abs(ours - theirs).max() <= 1e-5


@pytest.mark.slow
@pytest.mark.emulator
def test_no_time_is_told(emulated: targets.Target, tmp_path: Path) -> None:
    path = network(tmp_path / "float.onnx", False)
    session = open_session(path, emulated)
    x = {"x": np.zeros((1, 3, 16, 16), np.float32)}
    (latency,) = compare_latency({"a": session}, x, runs=3)["a"]
    session.close()
    assert latency.value is None and "emulated" in latency.reason
    assert all(m.value is None and "emulated" in m.reason for m in measure_cold_start(path, emulated, x))


def test_a_core_that_is_not_known(tmp_path: Path) -> None:
    target = targets.load("arm64-qemu").model_copy(update={"device": "cortex-z9"})
    with pytest.raises(UserError, match="no emulated core 'cortex-z9'") as caught:
        open_session(network(tmp_path / "a.onnx", False), target)
    assert "cortex-a76" in caught.value.expected


def test_files_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPRESS_ARM64", str(tmp_path / "none"))
    monkeypatch.setattr("edgepress.targets.remote.qemu.emulator", lambda: "/usr/bin/qemu-aarch64-static")
    with pytest.raises(MissingTool) as caught:
        open_session(network(tmp_path / "a.onnx", False), targets.load("arm64-qemu"))
    assert caught.value.fix == "python scripts/arm64_tree.py"


def test_no_emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingTool, match="qemu-aarch64"):
        open_session(network(tmp_path / "a.onnx", False), targets.load("arm64-qemu"))
