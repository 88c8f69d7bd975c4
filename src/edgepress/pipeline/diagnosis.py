"""Where a quantized model loses: of a run, of two programs, or of two ONNX files, on the data that is at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch

from edgepress.errors import UserError
from edgepress.ir import Program, load
from edgepress.ir.serde import MANIFEST
from edgepress.passes.insert_qdq import PLAN
from edgepress.pipeline.bench import Bench, Reporter
from edgepress.pipeline.lineage import lineage
from edgepress.pipeline.model import open_program
from edgepress.pipeline.onnx_noise import diagnose_onnx
from edgepress.pipeline.run import RESOLVED, set_up
from edgepress.pipeline.steps.quantize import REFERENCE, quant_options
from edgepress.quantize.diagnose import Diagnosis, diagnose
from edgepress.quantize.integer_reference import run_integers
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import prepare
from edgepress.quantize.repair import Repair, repairs
from edgepress.quantize.saturation import Saturation, saturation
from edgepress.recipe import load as load_recipe
from edgepress.recipe.steps import Quantize
from edgepress.targets.capability import Capability, load_capability

Batch = tuple[torch.Tensor, ...]
BATCH = 32


@dataclass(frozen=True)
class Findings:
    """What was found.

    Attributes:
        diagnosis: noise node by node. repairs: what would help, cheapest first, measured; `None` if not asked for.
        saturating: weights whose sums can leave 16 bits where the target computes so, `None` where it does not.
        exact: how the exported file's outputs compare with the exact integer arithmetic, "" where there is no file.
        data: what it was measured on.
    """

    diagnosis: Diagnosis
    repairs: tuple[Repair, ...] | None
    saturating: tuple[Saturation, ...] | None
    data: str
    exact: str = ""


def diagnose_run(
    run: Path, samples: int, *, target: str | None = None, with_repairs: bool, reporter: Reporter
) -> Findings:
    """The quantize step of a finished run, on its own evaluation data.

    Args:
        target: the capability table that is asked about; the run's own without it.

    Raises:
        UserError: no run there, or one that does not quantize.
    """
    if not (run / RESOLVED).is_file():
        raise UserError(f"{run} is no run", found=f"no {RESOLVED}", expected="a folder of `edgepress run`",
                        fix="give the run's folder, or two model files")  # fmt: skip
    recipe = load_recipe(run / RESOLVED)
    steps = lineage(run)
    before, after = _around_quantization(run, steps)
    bench = set_up(recipe, "cpu", reporter)
    config = next(item.config for item in recipe.steps if isinstance(item.config, Quantize))
    reference = load(after.parent / REFERENCE) if (after.parent / REFERENCE).exists() else None
    batches, data = _of_bench(bench, samples)
    capability, quantized = load_capability(target or bench.target.capability), load(after)
    found = _programs(
        load(before), quantized, batches, data, quant_options(config, bench.seed), capability,
        reference=reference, calibration=_calibration(bench, samples) if with_repairs else None, reporter=reporter,
    )  # fmt: skip
    exported = steps[-1] / "model.onnx"
    return found if not exported.exists() else replace(found, exact=_against_integers(quantized, exported, batches))


def _against_integers(program: Program, exported: Path, batches: Sequence[Batch]) -> str:
    """Outputs of a file in onnxruntime beside those of the exact integer arithmetic."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(exported), options, providers=["CPUExecutionProvider"])
    equal = total = 0
    largest = 0.0
    for batch in batches:
        feeds = {name: t.numpy() for name, t in zip(program.input_names, batch, strict=True)}
        theirs = torch.from_numpy(session.run(None, feeds)[0])
        ours = run_integers(program, batch)[0]
        equal, total = equal + int((ours == theirs).sum()), total + ours.numel()
        largest = max(largest, float((ours - theirs).abs().max()))
    found = f"{equal:,} of {total:,} outputs equal the exact integer arithmetic bit for bit"
    return f"{found} (largest difference {largest:.3g})"


def diagnose_files(
    reference: Path,
    quantized: Path,
    samples: int,
    *,
    recipe: Path | None,
    target: str,
    with_repairs: bool,
    reporter: Reporter,
) -> Findings:
    """Two model files, on the data of a recipe, or on noise without one.

    Raises:
        UserError: files that cannot be read or do not belong together.
    """
    program = open_program(reference)
    bench = None if recipe is None else set_up(load_recipe(recipe), "cpu", reporter)
    batches, data = _noise(program, samples) if bench is None else _of_bench(bench, samples)
    capability = load_capability(target)
    calibration = (_calibration(bench, samples) if bench else batches) if with_repairs else None
    if reference.suffix == quantized.suffix == ".onnx":
        feeds = ({n: t.numpy() for n, t in zip(program.input_names, b, strict=True)} for b in batches)
        found = diagnose_onnx(reference, quantized, feeds)
        tried = repairs(program, QuantOptions(), capability, calibration, reporter.progress) if calibration else None
        return Findings(found, tried, None, data)
    other = open_program(quantized)
    return _programs(
        program, other, batches, data, QuantOptions(), capability,
        reference=None, calibration=calibration, reporter=reporter,
    )  # fmt: skip


def _programs(
    program: Program,
    quantized: Program,
    batches: Sequence[Batch],
    data: str,
    options: QuantOptions,
    capability: Capability,
    *,
    reference: Program | None,
    calibration: Sequence[Batch] | None,
    reporter: Reporter,
) -> Findings:
    count = sum(len(batch[0]) for batch in batches)
    found = diagnose(reference or prepare(program), quantized, batches, samples=count)
    tried = None if calibration is None else repairs(program, options, capability, calibration, reporter.progress)
    saturating = saturation(quantized) if capability.saturates_16_bit else None
    return Findings(found, tried, saturating, data)


def _around_quantization(run: Path, steps: Sequence[Path]) -> tuple[Path, Path]:
    """The stored programs before and after the quantize step that led to the run's artifact."""
    stored = [step for step in steps if (step / "program" / MANIFEST).exists()]
    for before, after in pairwise(stored):
        if "-quantize" in after.name and PLAN in load(after / "program").plans:
            return before / "program", after / "program"
    raise UserError(f"{run} has no quantized program", found=", ".join(p.name for p in stored) or "no steps",
                    expected="a quantize step", fix="add `quantize` to the recipe")  # fmt: skip


def _of_bench(bench: Bench, samples: int) -> tuple[list[Batch], str]:
    """Evaluation samples, which calibration has not seen; calibration samples where there are none."""
    dataset = bench.samples.evaluate
    if dataset is None:
        return _calibration(bench, samples), f"{samples} calibration samples"
    some = dataset.take(samples, bench.seed).inputs
    return _batches(bench.original, some), f"{len(some[0])} evaluation samples"


def _calibration(bench: Bench, samples: int) -> list[Batch]:
    return [inputs for inputs, _ in bench.calibration_batches(samples)]


def _noise(program: Program, samples: int) -> tuple[list[Batch], str]:
    draw = torch.Generator().manual_seed(0)
    rows = [t.shape[1:] for t in program.example_inputs]
    count = samples if program.dynamic_batch() else len(program.example_inputs[0])
    made = tuple(
        torch.randn(count, *shape, generator=draw) if t.is_floating_point() else t[:1].expand(count, *shape)
        for shape, t in zip(rows, program.example_inputs, strict=True)
    )
    return _batches(program, made), f"{count} samples of noise: name real data with --recipe"


def _batches(program: Program, inputs: Batch) -> list[Batch]:
    size = BATCH if program.dynamic_batch() else len(program.example_inputs[0])
    whole = len(inputs[0]) // size * size or len(inputs[0])
    count = len(inputs[0]) if program.dynamic_batch() else whole
    return [tuple(t[i : i + size] for t in inputs) for i in range(0, count, size)]
