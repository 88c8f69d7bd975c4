"""OpenVINO sessions: right answers, and none at all for inputs that do not fit."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgepress import targets
from edgepress.errors import ToolError, UserError
from edgepress.targets.runtimes import open_session
from edgepress.targets.runtimes.openvino_session import reason

pytest.importorskip("openvino")


@pytest.fixture
def target() -> targets.Target:
    return targets.load("openvino-cpu")


def test_runs_with_any_batch(matmul: Path, weight: np.ndarray, target: targets.Target) -> None:
    session = open_session(matmul, target)
    for n in (1, 5, 2):
        x = np.random.default_rng(n).normal(size=(n, 3)).astype(np.float32)
        np.testing.assert_allclose(session.run({"x": x})[0], x @ weight, rtol=1e-5, atol=1e-6)
    assert (session.input_names, session.output_names) == (("x",), ("y",))
    assert "openvino" in session.describe()
    session.close()


def test_outputs_belong_to_the_caller(matmul: Path, target: targets.Target) -> None:
    session = open_session(matmul, target)
    first = session.run({"x": np.ones((1, 3), np.float32)})[0]
    kept = first.copy()
    session.run({"x": np.zeros((1, 3), np.float32)})
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(
    "feed",
    [
        {"x": np.zeros((5, 4), np.float32)},
        {"x": np.zeros((5, 3), np.float64)},
        {"x": np.zeros((3,), np.float32)},
        {"z": np.zeros((5, 3), np.float32)},
        {},
    ],
)
def test_inputs_that_do_not_fit(matmul: Path, target: targets.Target, feed: dict[str, np.ndarray]) -> None:
    session = open_session(matmul, target)
    session.run({"x": np.zeros((5, 3), np.float32)})
    with pytest.raises(UserError, match="fit the artifact"):
        session.run(feed)


def test_a_file_that_is_no_model(tmp_path: Path, target: targets.Target) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(ToolError, match="refuses"):
        open_session(path, target)


def test_a_setting_that_openvino_does_not_know(matmul: Path, target: targets.Target) -> None:
    with pytest.raises(ToolError) as caught:
        open_session(matmul, target.model_copy(update={"options": {"NOPE": 1}}))
    assert "Unsupported property NOPE" in caught.value.found


def test_a_device_that_is_not_there(matmul: Path, target: targets.Target) -> None:
    with pytest.raises(UserError, match="sees no device 'NPU'"):
        open_session(matmul, target.model_copy(update={"device": "NPU"}))


def test_the_reason_under_a_stack_of_file_names() -> None:
    text = "Exception from a.cpp:1:\nCheck 'x' failed at b.cpp:2:\nPort not found\n\n"
    assert reason(RuntimeError(text)) == "Port not found"
    assert reason(RuntimeError("")) == "RuntimeError"


def test_nothing_is_reported_to_anyone() -> None:
    """Importing openvino would fork a process that sends an event; ours starts no process at all."""
    program = (
        "import sys, os, time\n"
        "forks = []; os.register_at_fork(before=lambda: forks.append(1))\n"
        "from edgepress.targets.runtimes.openvino_session import import_runtime\n"
        "import_runtime().Core()\n"
        "time.sleep(1)\n"  # a thread of its own would do it
        "sys.exit(f'{len(forks)} forks, {sys.modules.get(\"openvino_telemetry\")}' if forks else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
