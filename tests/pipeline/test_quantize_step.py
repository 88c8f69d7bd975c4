"""Settings of the quantize step in whole runs, and what a run tells about its losses."""

from pathlib import Path

import pytest
from tests.pipeline.test_run import Silent, run

from edgepress.errors import UserError
from edgepress.measure.record import StepRecord
from edgepress.pipeline.diagnosis import diagnose_run
from edgepress.pipeline.evidence import loss_notes
from edgepress.pipeline.steps.quantize import quant_options
from edgepress.quantize.options import QuantOptions
from edgepress.recipe.steps import Quantize
from edgepress.train import tasks

STEP = "steps.2.quantize."


def record(before: float, after: float, **facts: str) -> StepRecord:
    return StepRecord(name="03-quantize", kind="quantize", changed=True, summary="", facts=facts,
                      before={"accuracy": before}, after={"accuracy": after})  # fmt: skip


def test_a_loss_is_noted_with_the_layer_at_fault() -> None:
    task = tasks.get("classification")
    noise = "output 3.0 dB above the noise; first bad layer conv: weight, 4.0 dB"
    (note,) = loss_notes([record(0.9, 0.8, noise=noise)], task)
    assert "first bad layer conv" in note and "0.9 -> 0.8" in note and "compare" in note
    assert not loss_notes([record(0.9, 0.899, noise=noise), record(0.8, 0.9, noise=noise)], task)
    assert not loss_notes([record(0.9, 0.1)], task)


def test_a_run_with_equalization_is_diagnosed_against_its_own_float_program(project: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(project, out, STEP + "equalize=true", STEP + "correct_biases=true", "steps.3.export.opset=21",
        "measure.latency=null")  # fmt: skip
    assert list(out.glob("steps/*-quantize-*/reference"))
    found = diagnose_run(out, 32, with_repairs=False, reporter=Silent())
    assert found.diagnosis.output_db > 15 and "evaluation samples" in found.data
    assert all(noise.sqnr_db > 10 for noise in found.diagnosis.nodes)
    assert "bit for bit" in found.exact
    sums = diagnose_run(out, 32, target="onnxruntime-x86-avx2", with_repairs=False, reporter=Silent()).saturating
    assert sums is not None


def test_the_samples_of_a_step_are_also_those_that_rounding_looks_at() -> None:
    assert quant_options(Quantize(samples=2048), 0).rounding_samples == 2048
    assert quant_options(Quantize(), 0).rounding_samples == QuantOptions().rounding_samples


def test_mixed_widths_in_a_recipe(project: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(project, out, STEP + "mixed={average_bits: 4}", "steps.3.export.opset=21", "measure.latency=null")
    (plan,) = out.glob("steps/*-quantize-*/plan.txt")
    assert "would" in plan.read_text()


def test_a_run_without_quantization_has_nothing_to_diagnose(project: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    text = project.read_text()
    start = text.index("  - quantize")
    project.write_text(text[:start] + text[text.index("  - export") :])
    run(project, out, "measure.latency=null")
    with pytest.raises(UserError, match="has no quantized program"):
        diagnose_run(out, 8, with_repairs=False, reporter=Silent())


def test_ranges_that_were_weighed_are_explained(project: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    outcome, _ = run(project, out, STEP + "observer=auto", "measure.latency=null")
    (plan,) = out.glob("steps/*-quantize-*/plan.txt")
    assert "\n  ranges by " in plan.read_text()
    assert outcome.evidence is not None
    step = next(s for s in outcome.evidence.steps if s.kind == "quantize")
    assert "; ranges by " in step.summary and str(step.facts["ranges"]) in plan.read_text()
