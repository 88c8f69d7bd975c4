"""onnxruntime sessions: right answers, and plain words for what does not fit."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgepress import targets
from edgepress.errors import MissingTool, ToolError, UserError
from edgepress.targets.runtimes import onnxruntime_session, open_session
from edgepress.targets.runtimes.onnxruntime_session import check_provider, provider_options


@pytest.fixture
def target() -> targets.Target:
    return targets.load("local-cpu")


def test_runs_and_describes_itself(matmul: Path, weight: np.ndarray, target: targets.Target) -> None:
    session = open_session(matmul, target)
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    np.testing.assert_allclose(session.run({"x": x})[0], x @ weight, rtol=1e-6)
    assert (session.input_names, session.output_names) == (("x",), ("y",))
    assert "onnxruntime" in session.describe()
    assert "1 thread" in session.describe()
    session.close()


@pytest.mark.parametrize(
    ("feed", "found", "expected"),
    [
        ({"x": np.zeros((5, 4), np.float32)}, "float32 [5, 4]", "float32 [N, 3]"),
        ({"x": np.zeros((5, 3), np.float64)}, "float64 [5, 3]", "float32 [N, 3]"),
        ({"x": np.zeros((3,), np.float32)}, "float32 [3]", "float32 [N, 3]"),
        ({"z": np.zeros((5, 3), np.float32)}, "z", "x"),
        ({}, "none", "x"),
    ],
)
def test_inputs_that_do_not_fit(
    matmul: Path, target: targets.Target, feed: dict[str, np.ndarray], found: str, expected: str
) -> None:
    session = open_session(matmul, target)
    with pytest.raises(UserError) as caught:
        session.run(feed)
    assert (caught.value.found, caught.value.expected) == (found, expected)


def test_a_run_that_fails_inside_the_runtime(tmp_path: Path, target: targets.Target) -> None:
    """Inputs that fit, and yet the reshape inside cannot be done."""
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "s"], ["y"])],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"]),
            helper.make_tensor_value_info("s", TensorProto.INT64, [2]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["A", "B"])],
    )
    path = tmp_path / "reshape.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    session = open_session(path, target)
    with pytest.raises(ToolError, match=r"onnxruntime failed in reshape\.onnx"):
        session.run({"x": np.zeros(5, np.float32), "s": np.array([2, 2])})


def test_a_file_that_is_no_model(tmp_path: Path, target: targets.Target) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(ToolError, match="refuses"):
        open_session(path, target)


def test_a_missing_file(tmp_path: Path, target: targets.Target) -> None:
    with pytest.raises(UserError, match="no artifact at"):
        open_session(tmp_path / "none.onnx", target)


def test_another_kind_of_file(tmp_path: Path, target: targets.Target) -> None:
    path = tmp_path / "model.tflite"
    path.touch()
    with pytest.raises(UserError, match=r"cannot run model\.tflite"):
        open_session(path, target)


def test_a_device_that_is_not_there_is_never_replaced_by_the_cpu(matmul: Path, target: targets.Target) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(MissingTool, match="CUDAExecutionProvider"):
        open_session(matmul, targets.load("cuda"))


def test_a_device_onnxruntime_does_not_know(matmul: Path, target: targets.Target) -> None:
    with pytest.raises(UserError, match="no device 'tpu'"):
        open_session(matmul, target.model_copy(update={"device": "tpu"}))


def test_a_target_without_a_session(matmul: Path, target: targets.Target) -> None:
    with pytest.raises(UserError, match="no runtime that runs in this process"):
        open_session(matmul, target.model_copy(update={"runtime": "c"}))


def test_session_options_reach_the_runtime(matmul: Path, target: targets.Target) -> None:
    with_option = target.model_copy(update={"options": {"session.disable_prepacking": True}})
    assert open_session(matmul, with_option).run({"x": np.ones((1, 3), np.float32)})[0].shape == (1, 2)


def test_options_of_the_provider_are_told_from_those_of_the_session() -> None:
    options = {"provider.trt_engine_cache_enable": True, "session.intra_op.allow_spinning": 1}
    gpu = targets.load("cuda").model_copy(update={"options": options})
    assert provider_options(gpu) == {"trt_engine_cache_enable": "1"}


def test_a_provider_that_onnxruntime_dropped_is_an_error() -> None:
    gpu = targets.load("cuda")
    asked = [("CUDAExecutionProvider", {"device_id": "0"}), "CPUExecutionProvider"]
    check_provider("CUDAExecutionProvider", asked, gpu)
    with pytest.raises(MissingTool, match="the libraries of CUDAExecutionProvider"):
        check_provider("CPUExecutionProvider", asked, gpu)


def test_tensorrt_falls_back_to_cuda_before_the_cpu(monkeypatch) -> None:
    import onnxruntime as ort

    known = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: known)
    options = {"provider.trt_timing_cache_enable": True}
    gpu = targets.load("cuda").model_copy(update={"device": "tensorrt:1", "options": options})
    assert onnxruntime_session._providers(ort, gpu) == [
        ("TensorrtExecutionProvider", {"device_id": "1", "trt_timing_cache_enable": "1"}),
        ("CUDAExecutionProvider", {"device_id": "1"}),
        "CPUExecutionProvider",
    ]
