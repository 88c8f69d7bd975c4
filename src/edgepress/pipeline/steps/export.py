"""`export`: write the artifact that ships, and what each target runs."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from edgepress import __version__
from edgepress.errors import UserError
from edgepress.exporters.c import Options
from edgepress.exporters.c import export as export_c
from edgepress.exporters.formats import FILES, HALF_FORMATS, Files, WriteOptions, format_of, write_files
from edgepress.exporters.onnx import OnnxOptions, export_onnx
from edgepress.exporters.onnx_half import KeepFloat, peaks_of
from edgepress.exporters.tensorrt import EngineOptions
from edgepress.ir import Program, Refusal
from edgepress.measure.divergence import trace_onnx
from edgepress.measure.size import measure_size
from edgepress.pipeline.bench import Bench
from edgepress.pipeline.firmware import has_four_bit_weights
from edgepress.pipeline.steps.step import StepResult, Workplace
from edgepress.recipe.steps import Export
from edgepress.targets import load as load_target
from edgepress.targets.companions import companions

C_FOLDER = "c"
PEAK_SAMPLES = 64
# Nodes that stay float are listed one by one up to here; a report with hundreds of lines is read by nobody.
MOST_TOLD = 20


def run(config: Export, program: Program, bench: Bench, place: Workplace) -> StepResult:
    """Export in the format of the recipe and in those of its targets; C where the recipe asks and it is quantized."""
    core = _core(config, program, bench)
    formats = formats_of(config, bench)
    plan = _plan(config, program, formats, core)
    if place.folder is None:
        return StepResult(program, True, plan, plan=plan)
    files = write_files(program, place.folder, formats, _options(config, program, bench))
    shipped = files.paths[shipped_format(config)]
    (size, *_) = measure_size(shipped, *companions(shipped))
    assert size.value is not None
    facts: dict[str, float | int | str] = {"size_bytes": int(size.value)}
    summary = _summary(files, shipped, int(size.value))
    if core:
        options = Options(target=core, name=config.name, four_bit=has_four_bit_weights(program))
        made = export_c(shipped, place.folder / C_FOLDER, options=options)
        facts |= {"arena_bytes": made.arena_bytes, "constant_bytes": made.constant_bytes}
        summary += f"; C for {core}: arena {made.arena_bytes:,} bytes, constants {made.constant_bytes:,} bytes"
    return StepResult(
        program, True, summary, facts=facts, plan=plan, artifact=shipped.name, refusals=_refusals(config, files)
    )


def formats_of(config: Export, bench: Bench) -> tuple[str, ...]:
    """What is written: first what ships, then what the targets run, each once."""
    wanted = (shipped_format(config), *(format_of(target) for target in bench.targets if target.kind != "mcu"))
    return tuple(dict.fromkeys(wanted))


def shipped_format(config: Export) -> str:
    """C is generated from the ONNX file, which ships beside it."""
    return "onnx" if config.format == "c" else config.format


def _plan(config: Export, program: Program, formats: tuple[str, ...], core: str) -> str:
    names = ", ".join(FILES[kind] for kind in formats)
    plan = f"write {names}, opset {config.opset}, inputs {', '.join(program.input_names)}"
    plan += f", {config.precision}" if config.precision != "float32" else ""
    return plan + (f"; C sources for {core}" if core else "")


def _summary(files: Files, shipped: Path, size: int) -> str:
    others = [path.name for path in files.paths.values() if path != shipped]
    kept = len(files.onnx.kept) if files.onnx else 0
    return (
        f"{shipped.name}, {size:,} bytes"
        + (f"; also {', '.join(others)}" if others else "")
        + (f"; {kept} node(s) stay float32" if kept else "")
    )


def _options(config: Export, program: Program, bench: Bench) -> WriteOptions:
    keep, engine = config.keep_float, config.engine
    onnx = OnnxOptions(
        opset=config.opset,
        precision=config.precision,
        keep=KeepFloat(keep.ops, keep.names, keep.borders),
        batch=config.batch,
        metadata=_metadata(program, bench),
    )
    if config.precision == "float16" and shipped_format(config) in HALF_FORMATS:
        onnx = replace(onnx, peaks=_peaks(program, bench, onnx))
    builder = EngineOptions(
        workspace_mib=engine.workspace_mib,
        optimization_level=engine.optimization_level,
        version_compatible=engine.version_compatible,
        hardware=engine.hardware,
        refit=engine.refit,
    )
    return WriteOptions(onnx, builder, most_batch=engine.max_batch)


def _metadata(program: Program, bench: Bench) -> dict[str, str]:
    """Who made the file, from what: enough to find the run it came from."""
    return {"edgepress": __version__, "program": program.digest(), "original": bench.original.digest()}


def _peaks(program: Program, bench: Bench, options: OnnxOptions) -> dict[str, float]:
    """Largest magnitude of every tensor on some samples, in float32 on onnxruntime."""
    samples = bench.samples.calibration or bench.samples.evaluate
    inputs = program.example_inputs if samples is None else tuple(t[:PEAK_SAMPLES] for t in samples.inputs)
    size = PEAK_SAMPLES if program.dynamic_batch() else int(program.example_inputs[0].shape[0])
    chunks = list(zip(*(t.split(size) for t in inputs), strict=True))
    whole = [chunk for chunk in chunks if program.dynamic_batch() or len(chunk[0]) == size]
    with tempfile.TemporaryDirectory(prefix="edgepress-") as folder:
        file = Path(folder) / FILES["onnx"]
        export_onnx(program, file, options=OnnxOptions(opset=options.opset))
        feeds = (dict(zip(program.input_names, (t.numpy() for t in chunk), strict=True)) for chunk in whole)
        return peaks_of(trace_onnx(file, load_target("local-cpu"), feed) for feed in feeds)


def _refusals(config: Export, files: Files) -> tuple[Refusal, ...]:
    """What stays in 32 bits although 16 were asked for: nodes of the ONNX file, and files that have no such form."""
    whole = [kind for kind in files.paths if kind not in HALF_FORMATS] if config.precision != "float32" else []
    needed = f"options: {{autocast: {config.precision}}} in the target file"
    return (*_kept_float(files), *(Refusal(FILES[kind], "it has no 16-bit form", needed) for kind in whole))


def _kept_float(files: Files) -> tuple[Refusal, ...]:
    kept = files.onnx.kept if files.onnx else ()
    told = [Refusal(one.node, found=one.reason, needed="a 16-bit form without loss") for one in kept[:MOST_TOLD]]
    if len(kept) > MOST_TOLD:
        told.append(Refusal("others", found=f"{len(kept) - MOST_TOLD} more nodes", needed="likewise"))
    return tuple(told)


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
