"""`export`: write the artifact that ships."""

from __future__ import annotations

from edgepress.errors import UserError
from edgepress.exporters.c import Options
from edgepress.exporters.c import export as export_c
from edgepress.exporters.onnx import export_onnx
from edgepress.ir import Program
from edgepress.pipeline.bench import Bench
from edgepress.pipeline.firmware import has_four_bit_weights
from edgepress.pipeline.steps.step import StepResult, Workplace
from edgepress.recipe.steps import Export

ARTIFACT = "model.onnx"


C_FOLDER = "c"


def run(config: Export, program: Program, bench: Bench, place: Workplace) -> StepResult:
    """Export to ONNX, and to C where the recipe asks for it and the program is quantized."""
    core = _core(config, program, bench)
    plan = f"write {ARTIFACT}, opset {config.opset}, inputs {', '.join(program.input_names)}"
    plan += f"; C sources for {core}" if core else ""
    if place.folder is None:
        return StepResult(program, True, plan, plan=plan)
    path = place.folder / ARTIFACT
    export_onnx(program, path, opset=config.opset)
    facts: dict[str, float | int | str] = {"size_bytes": path.stat().st_size}
    summary = f"{ARTIFACT}, {facts['size_bytes']:,} bytes"
    if core:
        options = Options(target=core, name=config.name, four_bit=has_four_bit_weights(program))
        made = export_c(path, place.folder / C_FOLDER, options=options)
        facts |= {"arena_bytes": made.arena_bytes, "constant_bytes": made.constant_bytes}
        summary += f"; C for {core}: arena {made.arena_bytes:,} bytes, constants {made.constant_bytes:,} bytes"
    return StepResult(program, True, summary, facts=facts, plan=plan, artifact=ARTIFACT)


def _core(config: Export, program: Program, bench: Bench) -> str:
    """The core to write C for, "" for none: the float baseline has no C.

    Raises:
        UserError: C is asked for, but no target is a microcontroller.
    """
    if config.format != "c" or "quantize" not in program.plans:
        return ""
    cores = [target.device for target in bench.targets if target.kind == "mcu"]
    if not cores:
        raise UserError(
            "export to C needs a microcontroller target",
            found=", ".join(target.name for target in bench.targets),
            expected="one of kind mcu, e.g. cortex-m4",
            fix="add cortex-m4 to `targets`",
        )
    return cores[0]
