"""OpenVINO IR from ONNX files: the same answers, and integers that stay integers."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepress import targets
from edgepress.errors import ToolError, UserError
from edgepress.exporters.openvino import export_openvino
from edgepress.measure.parity import compare_outputs
from edgepress.targets.runtimes import open_session

pytest.importorskip("openvino")

RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(64, 32)).astype(np.float32)
X = {"x": RNG.normal(size=(7, 64)).astype(np.float32)}


def linear(path: Path, quantized: bool = False) -> Path:
    constants: dict[str, object] = {"w": WEIGHT}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    if quantized:
        scale = np.float32(np.abs(WEIGHT).max() / 127)
        constants = {
            "wq": np.round(WEIGHT / scale).astype(np.int8), "ws": scale, "xs": np.float32(0.04), "z": np.int8(0)
        }  # fmt: skip
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "xs", "z"], ["xq"]),
            helper.make_node("DequantizeLinear", ["xq", "xs", "z"], ["xd"]),
            helper.make_node("DequantizeLinear", ["wq", "ws", "z"], ["wd"]),
            helper.make_node("MatMul", ["xd", "wd"], ["y"]),
        ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 32])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def answers(path: Path, target: str) -> list[np.ndarray]:
    session = open_session(path, targets.load(target))
    outputs = session.run(X)
    session.close()
    return outputs


@pytest.mark.parametrize("quantized", [False, True])
def test_the_same_answers_as_the_onnx_file(tmp_path: Path, quantized: bool) -> None:
    source = linear(tmp_path / "model.onnx", quantized)
    artifact = export_openvino(source, tmp_path / "model.xml")
    parity = compare_outputs("onnx", "openvino", answers(source, "local-cpu"), answers(artifact.path, "openvino-cpu"))
    assert parity.max_abs < 1e-4
    assert parity.flip_rate == 0
    assert artifact.weights == tmp_path / "model.bin" and artifact.weights.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.bin", "model.onnx", "model.xml"]


def test_integer_weights_stay_integers(tmp_path: Path) -> None:
    artifact = export_openvino(linear(tmp_path / "int8.onnx", quantized=True), tmp_path / "int8.xml")
    assert WEIGHT.size <= artifact.weights.stat().st_size < 1.2 * WEIGHT.size


def test_half_weights_are_half_as_large(tmp_path: Path) -> None:
    source = linear(tmp_path / "model.onnx")
    full = export_openvino(source, tmp_path / "full.xml")
    half = export_openvino(source, tmp_path / "half.xml", half_weights=True)
    assert half.weights.stat().st_size < 0.6 * full.weights.stat().st_size
    assert full.digest != half.digest


def test_the_same_bytes_twice(tmp_path: Path) -> None:
    source = linear(tmp_path / "model.onnx")
    first = export_openvino(source, tmp_path / "model.xml")
    assert export_openvino(source, tmp_path / "model.xml").digest == first.digest


@pytest.mark.parametrize(
    ("name", "path", "error"),
    [("none.onnx", "a.xml", UserError), ("broken.onnx", "a.xml", ToolError), ("broken.onnx", "a.onnx", UserError)],
)
def test_what_cannot_be_converted(tmp_path: Path, name: str, path: str, error: type[Exception]) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"nonsense")
    with pytest.raises(error):
        export_openvino(tmp_path / name, tmp_path / path)
    assert [p.name for p in tmp_path.iterdir()] == ["broken.onnx"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="cannot be written"):
        export_openvino(linear(tmp_path / "model.onnx"), tmp_path / "missing" / "model.xml")
