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
from edgepress.pipeline.bench import Bench
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.targets import Target
from edgepress.targets.capability import load_capability
from edgepress.targets.emulate import deploy

FIGURES = ("flash_bytes", "arena_bytes", "stack_bytes", "instructions")
NOISE_BATCHES = 2
EXACT = ("arena_bytes",)
UNCERTAIN = 0.01  # of figures that move a little with weights and data


@dataclass(frozen=True)
class Forecast:
    """Costs on one core. `why_not` says why flash, stack and instructions are None: no compiler or emulator here."""

    arena_bytes: int
    constant_bytes: int
    flash_bytes: int | None = None
    stack_bytes: int | None = None
    instructions: int | None = None
    why_not: str = ""

    def ratios(self, limits: Mapping[str, float]) -> dict[str, float]:
        """Each figure that has a limit, divided by it; what the calibrated network may need more is counted in.

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
            found[name] = value / limit * (1 if name in EXACT else 1 + UNCERTAIN)
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
        artifact = export_c(model, folder, options=Options(target=target.device, golden=1, keep_dead=True))
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


def gauge_of(limits: Mapping[str, float], bench: Bench) -> Callable[[Program], Mapping[str, float]]:
    """What tells how much of each limit a network needs on the bench's first target.

    Raises:
        UserError: that target is no microcontroller.
    """
    target = bench.target
    if target.kind != "mcu":
        raise UserError(f"prune.budget: {target.name} is no microcontroller", found=f"kind {target.kind}",
                        expected="one as the first target", fix="targets: [cortex-m4, ...]")  # fmt: skip

    def gauge(program: Program) -> Mapping[str, float]:
        bench.reporter.progress(f"building a cut network for {target.name}")
        return predict(program, target).ratios(limits)

    return gauge
