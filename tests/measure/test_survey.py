"""All measurements of a few artifacts in one call."""

import numpy as np
import pytest

from edgepress import targets
from edgepress.errors import UserError
from edgepress.measure.survey import survey


def test_a_survey_of_two_artifacts(onnx_with_weights):
    artifacts = {"small": onnx_with_weights(1), "large": onnx_with_weights(8)}
    result = survey(artifacts, targets.load("local-cpu"), runs=20, cold_starts=1)
    assert list(result) == ["small", "large"]
    values = {name: {m.name: m.value for m in measurements} for name, measurements in result.items()}
    assert set(values["small"]) == {
        "size_bytes", "compressed_bytes", "latency_ms", "peak_memory_bytes", "peak_rss_bytes", "runtime_memory_bytes",
        "allocator_bytes",
        "load_ms", "first_inference_ms", "energy_mj", "energy_total_mj", "idle_power_w",
    }  # fmt: skip
    assert values["small"]["size_bytes"] < values["large"]["size_bytes"]
    assert values["small"]["latency_ms"] < values["large"]["latency_ms"]


def test_given_inputs_are_used(onnx_with_weights):
    artifacts = {"one": onnx_with_weights(1)}
    with pytest.raises(UserError, match="fit the artifact"):
        survey(artifacts, targets.load("local-cpu"), inputs={"y": np.zeros(3)}, runs=1, cold_starts=0)
    with_inputs = survey(
        artifacts, targets.load("local-cpu"), inputs={"x": np.zeros((1, 1024), np.float32)}, runs=1, cold_starts=0
    )
    assert [m.name for m in with_inputs["one"]][:3] == ["size_bytes", "compressed_bytes", "latency_ms"]


def test_a_target_without_a_meter_gives_no_energy_and_says_why(onnx_with_weights):
    target = targets.load("local-cpu").model_copy(update={"meters": ()})
    result = survey({"one": onnx_with_weights(1)}, target, runs=1, cold_starts=0)
    (energy,) = (m for m in result["one"] if m.name == "energy_mj")
    assert energy.value is None
    assert "has no energy meter" in energy.reason
