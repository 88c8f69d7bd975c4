"""One recipe on several targets: each runs its own format, and figures are told apart by target."""

from pathlib import Path

import pytest
from tests.pipeline.test_run import run

from edgepress.gate.budget import parse_budgets
from edgepress.gate.judge import judge
from edgepress.measure.record import Answers, ClassOutcome, PairedOutcomes
from edgepress.recipe import load

THREE = "targets=['local-cpu', 'openvino-cpu', 'torch-eager']"


def test_every_target_runs_its_own_format(project: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    outcome, _ = run(project, tmp_path / "run", THREE, "steps.3.export.format=openvino")
    evidence = outcome.evidence
    assert evidence is not None
    files = {target: Path(path).name for target, path in evidence.compressed.artifacts.items()}
    assert files == {"local-cpu": "model.onnx", "openvino-cpu": "model.xml", "torch-eager": "model.pt2"}
    assert Path(evidence.compressed.artifact).name == "model.xml", "what the recipe asks for ships"
    for metric in ("latency_ms", "accuracy"):
        assert {m.target for m in evidence.compressed.measurements if m.name == metric} == set(files)
    sizes = {m.target: m.value for m in evidence.compressed.measurements if m.name == "size_bytes"}
    assert sizes.keys() == {"", *files} and sizes[""] == sizes["openvino-cpu"]
    assert set(evidence.answers) == set(files)
    assert [p.second for p in evidence.parity if p.first == "compressed program"] == [
        "compressed by the ONNX reference", "compressed on local-cpu",
        "compressed on openvino-cpu", "compressed on torch-eager",
    ]  # fmt: skip
    budgets = parse_budgets([{"metric": "accuracy", "max_drop": 0.9, "target": "openvino-cpu"}], "test")
    budgets += parse_budgets([{"metric": "size_bytes", "max": sizes[""]}], "test")  # of what ships
    verdicts = judge(evidence, budgets).verdicts
    assert [v.outcome for v in verdicts] == ["pass", "pass"] and verdicts[0].target == "openvino-cpu"


def test_one_format_needs_no_target_beside_its_size(project: Path, tmp_path: Path) -> None:
    outcome, _ = run(project, tmp_path / "run", "steps=[{export: {format: pt2}}]", "targets=[torch-eager]")
    assert outcome.evidence is not None
    assert outcome.evidence.compressed.artifacts == {} and outcome.evidence.answers == {}
    (size,) = (m for m in outcome.evidence.compressed.measurements if m.name == "size_bytes")
    assert size.target == ""


def test_a_16_bit_export_beside_a_float_baseline(project: Path, tmp_path: Path) -> None:
    steps = "steps=[{export: {format: onnx, precision: float16, keep_float: {ops: [Gemm]}}}]"
    outcome, _ = run(project, tmp_path / "run", steps, "targets=[local-cpu, torch-eager]")
    evidence = outcome.evidence
    assert evidence is not None
    (step,) = evidence.steps
    assert [(r.node, r.found) for r in step.refusals] == [
        ("Gemm making output", "Gemm is kept float"), ("model.pt2", "it has no 16-bit form"),
    ]  # fmt: skip
    small, large = (s.measurement("size_bytes").value for s in (evidence.compressed, evidence.baseline))  # type: ignore[union-attr]
    assert small < 0.75 * large  # type: ignore[operator]
    hop = next(p for p in evidence.parity if p.second == "compressed on local-cpu")
    assert 0 < hop.max_abs < 0.01


def test_answers_are_judged_on_the_target_of_the_budget(project: Path, tmp_path: Path) -> None:
    outcome, _ = run(project, tmp_path / "run", "steps=[{export: {}}]", "targets=[local-cpu, torch-eager]")
    evidence = outcome.evidence
    assert evidence is not None
    lost = PairedOutcomes(both=100, only_first=300, only_second=0, neither=0, flips=300)
    worse = Answers(paired=lost, classes=(ClassOutcome(label="0", outcomes=lost),))
    evidence = evidence.model_copy(update={"answers": {**evidence.answers, "torch-eager": worse}})
    budgets = [
        {"metric": "worst_class_accuracy", "max_drop": 0.5, "target": target} for target in ("local-cpu", "torch-eager")
    ]
    outcomes = [verdict.outcome for verdict in judge(evidence, parse_budgets(budgets, "test")).verdicts]
    assert outcomes == ["pass", "fail"]


def test_precision_that_a_format_cannot_have(project: Path) -> None:
    with pytest.raises(Exception, match="no 16-bit form"):
        load(project, ["steps=[{export: {format: pt2, precision: float16}}]"])
