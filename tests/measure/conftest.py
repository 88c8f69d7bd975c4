"""A session that takes as long as it is told to, so that timing is tested without a network."""

import time
from collections.abc import Callable, Mapping

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


class Spinner:
    """Busy for `seconds()` per run (sleeping is too coarse), and writes its name into `log`."""

    input_names = ("x",)
    output_names = ("y",)

    def __init__(self, seconds: Callable[[], float], log: list[str], name: str) -> None:
        self.seconds, self.log, self.name = seconds, log, name
        self.closed = False

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        self.log.append(self.name)
        end = time.perf_counter() + self.seconds()
        while time.perf_counter() < end:
            pass
        return [inputs["x"]]

    def describe(self) -> str:
        return "spinner"

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def spinner(log: list[str]) -> Callable[..., Spinner]:
    """spinner(seconds or a function returning seconds, name)."""

    def make(seconds: float | Callable[[], float], name: str = "spinner") -> Spinner:
        return Spinner(seconds if callable(seconds) else lambda: seconds, log, name)

    return make


@pytest.fixture
def onnx_with_weights(tmp_path):
    """onnx_with_weights(megabytes): a file of a MatMul with that many megabytes of weights, input x (1, 1024)."""

    def make(megabytes: int):
        weight = np.random.default_rng(0).normal(size=(1024, megabytes * 256)).astype(np.float32)
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1024])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, megabytes * 256])],
            [numpy_helper.from_array(weight, "w")],
        )
        path = tmp_path / f"w{megabytes}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
        return path

    return make
