"""What a network will need on a core, told before it is calibrated."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edgepress.errors import MissingTool, UserError
from edgepress.exporters.c import Options, export
from edgepress.exporters.onnx import export_onnx
from edgepress.pipeline.forecast import Forecast, predict
from edgepress.pipeline.model import import_model
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.recipe import load
from edgepress.targets.capability import load_capability
from edgepress.targets.emulate import deploy, why_not
from edgepress.targets.target import load as load_target


@pytest.mark.emulator
def test_the_forecast_is_what_the_calibrated_network_needs(repository: Path, tmp_path: Path) -> None:
    if reason := why_not("cortex-m4"):
        pytest.skip(reason)
    program = import_model(load(repository / "recipes" / "embedded.yaml").model)
    batch = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(3)) * 16
    real = quantize(program, QuantOptions(), load_capability("mcu-c"), [(batch,)]).program
    export_onnx(real, tmp_path / "model.onnx")
    artifact = export(tmp_path / "model.onnx", tmp_path / "c", options=Options())
    found = deploy(tmp_path / "c", np.zeros((1, 64), np.int8))
    told = predict(program, load_target("cortex-m4"))
    assert (told.arena_bytes, told.constant_bytes) == (artifact.arena_bytes, found.constant_bytes)
    assert told.flash_bytes == pytest.approx(found.flash_bytes, rel=0.02)
    assert told.stack_bytes == found.stack_bytes
    assert told.instructions == pytest.approx(found.total.instructions, rel=0.02)


def test_ratios_count_in_what_calibration_may_move() -> None:
    told = Forecast(arena_bytes=30_000, constant_bytes=0, flash_bytes=64_000)
    assert told.ratios({"arena_bytes": 30_000}) == {"arena_bytes": 1.0}, "the arena depends on shapes alone"
    assert told.ratios({"flash_bytes": 64_000})["flash_bytes"] == pytest.approx(1.01)


def test_limits_on_what_is_not_known_are_refused() -> None:
    told = Forecast(arena_bytes=30_000, constant_bytes=0, why_not="no compiler")
    with pytest.raises(UserError, match="no limit on colour"):
        told.ratios({"colour": 1})
    with pytest.raises(MissingTool, match="limit on instructions \\(no compiler"):
        told.ratios({"instructions": 1})
