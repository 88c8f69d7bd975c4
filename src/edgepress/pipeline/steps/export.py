"""`export`: write the artifact that ships."""

from __future__ import annotations

from edgepress.exporters.onnx import export_onnx
from edgepress.ir import Program
from edgepress.pipeline.bench import Bench
from edgepress.pipeline.steps.step import StepResult, Workplace
from edgepress.recipe.steps import Export

ARTIFACT = "model.onnx"


def run(config: Export, program: Program, bench: Bench, place: Workplace) -> StepResult:
    """Export to ONNX."""
    plan = f"write {ARTIFACT}, opset {config.opset}, inputs {', '.join(program.input_names)}"
    if place.folder is None:
        return StepResult(program, True, plan, plan=plan)
    path = place.folder / ARTIFACT
    export_onnx(program, path, opset=config.opset)
    size = path.stat().st_size
    return StepResult(
        program, True, f"{ARTIFACT}, {size:,} bytes", facts={"size_bytes": size}, plan=plan, artifact=ARTIFACT
    )
