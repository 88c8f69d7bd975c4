"""What a network will need on a microcontroller, before it is trained or calibrated: flash, RAM, stack, instructions.

These depend on the shapes of a network, hardly on its numbers: it is quantized with noise for calibration, exported to
C, linked, and run once on the emulated core. Instructions move by some 0.1 % with the data; the rest is what the
calibrated network will have, unless a scale at the edge of the range sends a layer to a slower kernel.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from edgepress.errors import MissingTool, UserError
from edgepress.exporters.c import Options
from edgepress.exporters.c import export as export_c
from edgepress.exporters.onnx import export_onnx
from edgepress.ir import Program
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.targets import Target
from edgepress.targets.capability import load_capability
from edgepress.targets.emulate import deploy

FIGURES = ("flash_bytes", "arena_bytes", "stack_bytes", "instructions")
NOISE_BATCHES = 2
STEPS = 7  # of the bisection: 1/128 of the way from nothing to all


@dataclass(frozen=True)
class Forecast:
    """Costs on one core. `why_not` says why flash, stack and instructions are None: no compiler or emulator here."""

    arena_bytes: int
    constant_bytes: int
    flash_bytes: int | None = None
    stack_bytes: int | None = None
    instructions: int | None = None
    why_not: str = ""

    def excess(self, limits: Mapping[str, float]) -> dict[str, float]:
        """By how much each exceeded limit is exceeded, as a ratio above 1.

        Raises:
            UserError: a limit on something that is not a figure. MissingTool: on one that cannot be found out here.
        """
        found = {}
        for name, limit in limits.items():
            if name not in FIGURES:
                raise UserError(f"no limit on {name} is possible", found=name, expected=", ".join(FIGURES))
            value = getattr(self, name)
            if value is None:
                raise MissingTool("an Arm compiler and an emulator", needed_for=f"a limit on {name} ({self.why_not})",
                                  install="pip install 'edgepress[edge]'")  # fmt: skip
            if value > limit:
                found[name] = value / limit
        return found


def predict(program: Program, target: Target) -> Forecast:
    """What `program` will need on a target of kind mcu. Float or quantized; a few seconds.

    Raises:
        UserError: the network has an operator without an integer form (names the node).
    """
    quantized = program if "quantize" in program.plans else _roughly_quantized(program, target)
    with tempfile.TemporaryDirectory(prefix="edgepress-") as name:
        model, folder = Path(name) / "model.onnx", Path(name) / "c"
        export_onnx(quantized, model)
        artifact = export_c(model, folder, options=Options(target=target.device, golden=1))
        width = sum(border["bytes"] for border in artifact.manifest["inputs"])
        known = Forecast(artifact.arena_bytes, artifact.constant_bytes)
        try:
            ran = deploy(folder, np.zeros((1, width), np.int8))
        except MissingTool as error:
            return Forecast(known.arena_bytes, known.constant_bytes, why_not=str(error.what))
    return Forecast(known.arena_bytes, known.constant_bytes, ran.flash_bytes, ran.stack_bytes, ran.total.instructions)


def _roughly_quantized(program: Program, target: Target) -> Program:
    draw = torch.Generator().manual_seed(0)
    batches = [tuple(_noise(x, draw) for x in program.example_inputs) for _ in range(NOISE_BATCHES)]
    return quantize(program, QuantOptions(rounding="nearest"), load_capability(target.capability), batches).program


def _noise(example: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    return torch.randn(example.shape, generator=draw) if example.is_floating_point() else example


def reduction_that_fits(forecast_at: Callable[[float], Forecast], limits: Mapping[str, float]) -> float:
    """The smallest share to cut (0..1, in steps of 1/128) whose network keeps all limits, by bisection.

    forecast_at: share cut -> forecast of the network it leaves; costs are taken to fall with the share.

    Raises:
        UserError: even the most that may be cut does not fit.
    """
    if not forecast_at(0.0).excess(limits):
        return 0.0
    low, high = 0.0, 1.0 - 2.0**-STEPS
    excess = forecast_at(high).excess(limits)
    if excess:
        worst = max(excess, key=lambda name: excess[name])
        raise UserError("no cut makes this network fit", found=f"{worst} {excess[worst]:.2f} times the limit",
                        expected="within every limit", fix="a smaller network, or wider limits")  # fmt: skip
    for _ in range(STEPS - 1):
        middle = (low + high) / 2
        low, high = (middle, high) if forecast_at(middle).excess(limits) else (low, middle)
    return high
