"""A microcontroller target: the generated C on an emulated core, held to the integer reference, counted exactly.

The baseline is the original network quantized with the same calibration data and otherwise untouched: what a team would
have flashed without edgepress. A float network has no C to compare with.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from edgepress.data.dataset import Dataset
from edgepress.exporters.c import CArtifact, Options
from edgepress.exporters.c import export as export_c
from edgepress.exporters.c.export import read_graph, reference
from edgepress.exporters.c.picture import plan_svg
from edgepress.exporters.onnx import export_onnx
from edgepress.ir import Program
from edgepress.measure.record import Measurement, Picture
from edgepress.measure.stats.pairing import pack
from edgepress.pipeline.bench import Bench
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.targets import Target
from edgepress.targets.capability import load_capability
from edgepress.targets.emulate import deploy

EMULATED_SAMPLES = 16  # run on the core and compared bit for bit
REFERENCE_SAMPLES = 256  # drawn by seed, run through the integer reference, which the C equals
BASELINE = "the original network, quantized and otherwise as imported"
Array = np.ndarray


class Firmware(NamedTuple):
    """What a core does with a model: its figures, and the plan of its memory."""

    measurements: list[Measurement]
    plan: Picture


def measure_firmware(bench: Bench, target: Target, program: Program) -> dict[str, Firmware]:
    """The baseline and the result ("compressed") on a core.

    Raises:
        UserError: the quantized program cannot be lowered to C (names the node). MissingTool: nothing can run the core.
    """
    evaluation = bench.samples.evaluate
    # drawn, not the first ones: files are often sorted by class
    data = None if evaluation is None else evaluation.take(REFERENCE_SAMPLES, bench.seed)
    return {
        "baseline": _measure(_quantized(bench, target), target, data, BASELINE),
        "compressed": _measure(program, target, data, "the result"),
    }


def _quantized(bench: Bench, target: Target) -> Program:
    batches = (inputs for inputs, _ in bench.calibration_batches())
    return quantize(bench.original, QuantOptions(), load_capability(target.capability), batches).program


def _measure(program: Program, target: Target, data: Dataset | None, what: str) -> Firmware:
    with tempfile.TemporaryDirectory(prefix="edgepress-") as name:
        model, folder = Path(name) / "model.onnx", Path(name) / "c"
        export_onnx(program, model)
        artifact = export_c(
            model, folder, options=Options(target=target.device, four_bit=has_four_bit_weights(program))
        )
        rows = _rows(artifact.manifest, program, data)
        expected = _reference(model, rows)
        deployment = deploy(folder, rows[:EMULATED_SAMPLES])
    measurements = [m.model_copy(update={"target": target.name}) for m in deployment.measurements()]
    n = len(deployment.outputs)
    wrong = int((deployment.outputs != expected[:n]).sum())
    measurements.append(
        Measurement(
            name="mismatched_bytes",
            value=wrong,
            unit="count",
            n=n,
            source="counted",
            method=f"{what}: outputs on the emulated core against the integer reference",
            target=target.name,
        )
    )
    plan = Picture(title=f"Memory of {what} on {target.name}", svg=plan_svg(artifact.manifest))
    return Firmware(measurements + _accuracy(artifact, data, expected, target, what), plan)


def has_four_bit_weights(program: Program) -> bool:
    """Whether the program was quantized to weights of four bits or fewer somewhere: C keeps two of them in a byte."""
    plan: Any = program.plans.get("quantize") or {}
    return any(w["grid"]["low"] >= -8 and w["grid"]["high"] <= 7 for w in plan.get("weights", ()))


def _rows(manifest: dict[str, Any], program: Program, data: Dataset | None) -> Array:
    """(n, input bytes) int8: the inputs as the C takes them, channels last."""
    tensors = program.example_inputs if data is None else data.inputs
    columns = [quantize_input(t, border) for t, border in zip(tensors, manifest["inputs"], strict=True)]
    return np.concatenate(columns, axis=1)


def quantize_input(tensor: torch.Tensor, border: dict[str, Any]) -> Array:
    """(n, bytes) int8: integers on the input's grid, or token numbers as four bytes each."""
    if border["dtype"] == "int32":
        return np.ascontiguousarray(tensor.reshape(len(tensor), -1).numpy(), np.int32).view(np.int8)
    last = tensor.movedim(1, -1) if border["channels_last"] else tensor
    flat = last.reshape(len(tensor), -1).double().numpy()
    integers = np.rint(flat / border["scale"]) + border["zero_point"]
    return np.clip(integers, -128, 127).astype(np.int8)


def _reference(model: Path, rows: Array) -> Array:
    graph = read_graph(model)
    return np.stack([reference(graph, row) for row in rows])


def _accuracy(
    artifact: CArtifact, data: Dataset | None, outputs: Array, target: Target, what: str
) -> list[Measurement]:
    """Accuracy of a classifier whose scores are the C's only output."""
    if data is None or not data.has_class_labels or len(artifact.manifest["outputs"]) != 1:
        return []
    assert data.targets is not None
    labels = data.targets.numpy()
    right = outputs.argmax(1) == labels
    return [
        Measurement(
            name="accuracy",
            value=float(right.mean()),
            unit="ratio",
            n=len(labels),
            better="higher",
            method=f"{what}: integer arithmetic of the C, {len(labels)} evaluation samples drawn by seed",
            target=target.name,
            data=data.digest,
            right=pack(right.tolist()),
        )
    ]
