"""`quantize`: put Q/DQ where the target computes on integers."""

from __future__ import annotations

from edgepress.ir import Program
from edgepress.pipeline.bench import Bench
from edgepress.pipeline.steps.step import StepResult, Workplace
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.recipe.steps import Quantize
from edgepress.targets.capability import load_capability


def run(config: Quantize, program: Program, bench: Bench, place: Workplace) -> StepResult:
    """Place by the target's capability table, calibrate, insert."""
    capability = load_capability(bench.target.capability)
    batches = (inputs for inputs, _ in bench.calibration_batches(config.samples))
    options = QuantOptions(
        weight_bits=config.weight_bits,
        activation_bits=config.activation_bits,
        rounding=config.rounding,
        reconstruct_steps=config.reconstruct_steps,
        seed=bench.seed,
        observer=config.observer,
        keep_float=config.keep_float,
        edge_bits=config.edge_bits,
    )
    result = quantize(program, options, capability, batches)
    plan = result.plan
    summary = (
        f"{len(plan.quantized)} operations on integers for {plan.target}, {len(plan.float_nodes)} stay float; "
        f"{len(plan.weights)} weights, {len(plan.activations)} activations"
    )
    return StepResult(
        result.program, bool(plan.quantized), summary, facts=result.facts, refusals=result.refusals, plan=plan.to_text()
    )
