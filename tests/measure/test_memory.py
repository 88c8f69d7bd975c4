"""Cold starts in real fresh processes: the weights show up in the memory, and failures are told."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from edgepress import targets
from edgepress.errors import ToolError, UserError
from edgepress.measure.memory import measure_cold_start
from edgepress.targets.worker.cold_start import allocator_bytes

X = {"x": np.ones((1, 1024), np.float32)}
MIB = 2**20


@pytest.fixture(scope="module")
def target():
    return targets.load("local-cpu")


def test_weights_are_seen_in_the_peak(onnx_with_weights, target):
    small, large = (
        {m.name: m for m in measure_cold_start(onnx_with_weights(size), target, X, repeats=1)} for size in (8, 72)
    )
    grown = large["peak_memory_bytes"].value - small["peak_memory_bytes"].value
    assert 64 * MIB < grown < 4 * 64 * MIB
    base, peak = large["runtime_memory_bytes"].value, large["peak_rss_bytes"].value
    assert 10 * MIB < base < peak
    assert large["load_ms"].value > 0 < large["first_inference_ms"].value


def test_every_process_gives_one_sample(onnx_with_weights, target):
    for measurement in measure_cold_start(onnx_with_weights(1), target, X, repeats=2):
        assert measurement.n == len(measurement.samples) == 2
        assert measurement.target == "local-cpu"


def test_an_artifact_that_cannot_be_loaded(tmp_path, target):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"nonsense")
    with pytest.raises(ToolError, match="refuses"):
        measure_cold_start(path, target, X, repeats=1)


def test_inputs_that_do_not_fit(onnx_with_weights, target):
    with pytest.raises(UserError, match="input 'x' does not fit") as caught:
        measure_cold_start(onnx_with_weights(1), target, {"x": np.ones((1, 3), np.float32)}, repeats=1)
    assert caught.value.expected == "float32 [1, 1024]"


def test_a_process_that_is_killed(onnx_with_weights, target, monkeypatch, tmp_path):
    """A sitecustomize that kills the process stands for the kernel's out-of-memory killer."""
    (tmp_path / "sitecustomize.py").write_text(f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    with pytest.raises(ToolError, match="ended early") as caught:
        measure_cold_start(onnx_with_weights(1), target, X, repeats=1)
    assert "-9" in caught.value.found


def test_no_repeats(target):
    with pytest.raises(UserError, match="nothing to measure"):
        measure_cold_start(Path("unused.onnx"), target, X, repeats=0)


def test_the_allocator_holds_the_weights_where_the_system_tells(onnx_with_weights, target):
    found = {m.name: m for m in measure_cold_start(onnx_with_weights(64), target, X, repeats=1)}
    held = found["allocator_bytes"]
    assert "gpu_memory_bytes" not in found, "only of a target with a GPU"
    if allocator_bytes() is None:
        assert held.value is None and held.reason
    else:
        assert 64 * MIB <= held.value < 4 * 64 * MIB
