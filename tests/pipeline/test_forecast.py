"""What a network will need on a core, told before it is calibrated, and the cut that makes it fit."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edgepress.errors import MissingTool, UserError
from edgepress.exporters.c import Options, export
from edgepress.exporters.onnx import export_onnx
from edgepress.pipeline.forecast import Forecast, predict, reduction_that_fits
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


def forecast_at(share: float) -> Forecast:
    """Costs that fall with the share cut, flash linearly and the arena in steps."""
    return Forecast(int(64_000 * (1 - share)) // 1000 * 1000, 0, flash_bytes=int(100_000 * (1 - share)))


def test_the_smallest_cut_that_fits_is_found() -> None:
    share = reduction_that_fits(forecast_at, {"flash_bytes": 64_000, "arena_bytes": 60_000})
    assert not forecast_at(share).excess({"flash_bytes": 64_000})
    assert forecast_at(share - 1 / 64).excess({"flash_bytes": 64_000})
    assert reduction_that_fits(forecast_at, {"flash_bytes": 200_000}) == 0.0


def test_what_cannot_fit_is_refused() -> None:
    with pytest.raises(UserError, match="no cut makes this network fit"):
        reduction_that_fits(forecast_at, {"flash_bytes": 10})
    with pytest.raises(UserError, match="no limit on colour"):
        forecast_at(0).excess({"colour": 1})
    with pytest.raises(MissingTool, match="limit on instructions"):
        forecast_at(0).excess({"instructions": 1})
