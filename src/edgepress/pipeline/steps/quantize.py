"""`quantize`: put Q/DQ where the target computes on integers."""

from __future__ import annotations

from edgepress.ir import Program
from edgepress.pipeline.bench import Bench
from edgepress.pipeline.steps.step import StepResult, Workplace
from edgepress.quantize import QuantOptions, quantize
from edgepress.recipe.steps import Quantize
from edgepress.targets.capability import load_capability


def run(config: Quantize, program: Program, bench: Bench, place: Workplace) -> StepResult:
    """Place by the target's capability table, calibrate, insert."""
    capability = load_capability(bench.target.capability)
    batches = (inputs for inputs, _ in bench.calibration_batches(config.samples))
    result = quantize(program, QuantOptions(observer=config.observer), capability, batches)
    plan = result.plan
    summary = (
        f"{len(plan.quantized)} operations on integers for {plan.target}, {len(plan.float_nodes)} stay float; "
        f"{len(plan.weights)} weights, {len(plan.activations)} activations"
    )
    return StepResult(
        result.program, result.changed, summary, facts=result.facts, refusals=result.refusals, plan=plan.to_text()
    )
