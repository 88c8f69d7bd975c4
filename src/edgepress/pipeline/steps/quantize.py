"""`quantize`: put Q/DQ where the target computes on integers."""

from __future__ import annotations

from edgepress.ir import Program, save
from edgepress.pipeline.bench import Bench
from edgepress.pipeline.steps.step import StepResult, Workplace
from edgepress.quantize.diagnose import diagnose
from edgepress.quantize.options import Mixed, QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.recipe.steps import Quantize
from edgepress.targets.capability import load_capability

NOISE = "noise"  # the fact that says where the program lost
DIAGNOSED = 64  # samples that noise is measured on
REFERENCE = "reference"  # folder of the float program, where its channels were rescaled


def run(config: Quantize, program: Program, bench: Bench, place: Workplace) -> StepResult:
    """Place by the target's capability table, calibrate, insert."""
    capability = load_capability(bench.target.capability)
    batches = (inputs for inputs, _ in bench.calibration_batches(config.samples))
    options = quant_options(config, bench.seed)
    result = quantize(program, options, capability, batches)
    plan = result.plan
    some = [inputs for inputs, _ in bench.calibration_batches(DIAGNOSED)]
    found = diagnose(result.reference, result.program, some, samples=DIAGNOSED) if plan.quantized else None
    facts = dict(result.facts) | ({"output_db": round(found.output_db, 2), NOISE: found.in_words()} if found else {})
    if place.folder is not None and (config.equalize or config.smooth is not None or config.awq):
        save(result.reference, place.folder / REFERENCE)  # what `compare --layers` holds the inner values against
    summary = (
        f"{len(plan.quantized)} operations on integers for {plan.target}, {len(plan.float_nodes)} stay float; "
        f"{len(plan.weights)} weights, {len(plan.activations)} activations"
    )
    return StepResult(
        result.program, bool(plan.quantized), summary, facts=facts, refusals=result.refusals, plan=plan.to_text()
    )


def quant_options(config: Quantize, seed: int) -> QuantOptions:
    """The settings of a recipe's step as `quantize` takes them."""
    wish = config.mixed
    mixed = None if wish is None else Mixed(wish.average_bits, wish.max_loss, wish.widths, wish.cost)
    return QuantOptions(
        weight_bits=config.weight_bits,
        activation_bits=config.activation_bits,
        rounding=config.rounding,
        reconstruct_steps=config.reconstruct_steps,
        seed=seed,
        observer=config.observer,
        keep_float=config.keep_float,
        edge_bits=config.edge_bits,
        weight_block=config.weight_block,
        awq=config.awq,
        equalize=config.equalize,
        smooth=config.smooth,
        correct_biases=config.correct_biases,
        mixed=mixed,
    )
