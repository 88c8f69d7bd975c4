"""`quantize`: put Q/DQ where the target computes on integers."""

from __future__ import annotations

from dataclasses import replace

from edgepress.ir import Program, save
from edgepress.passes.mark_dynamic import PLAN as DYNAMIC
from edgepress.passes.mark_dynamic import mark_dynamic
from edgepress.pipeline.bench import Bench
from edgepress.pipeline.guard import Choice
from edgepress.pipeline.guarding import dynamic, look_for_gain
from edgepress.pipeline.steps.step import StepResult, Workplace
from edgepress.quantize.diagnose import diagnose
from edgepress.quantize.options import Mixed, QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.recipe.steps import Quantize
from edgepress.targets.capability import Capability, load_capability

NOISE = "noise"  # the fact that says where the program lost
DIAGNOSED = 64  # samples that noise is measured on
REFERENCE = "reference"  # folder of the float program, where its channels were rescaled


def run(config: Quantize, program: Program, bench: Bench, place: Workplace) -> StepResult:
    """Place by the target's capability table, calibrate, insert."""
    capability = load_capability(bench.target.capability)
    batches = (inputs for inputs, _ in bench.calibration_batches(config.samples))
    options = quant_options(config, bench.seed)
    if config.scheme == "dynamic":
        return _dynamic(config, program, capability)
    choice = None
    if config.when_slower != "report" and not place.dry:
        choice = look_for_gain(program, options, bench, must=config.when_slower == "fail")
        if choice is not None and choice.outcome != "integers":
            return _declined(choice, program)
    result = quantize(program, options if choice is None else replace(options, slow=choice.slow), capability, batches)
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
    if any(weight.grid.dtype == "int8" and weight.grid.high < 8 for weight in plan.weights):
        summary += "; narrow weights lie in bytes below opset 21"
    if plan.ranges:
        summary += f"; ranges by {plan.ranges}"
    final = result.program
    if choice is not None:
        final = mark_dynamic(final, choice.dynamic).program
        facts |= choice.facts
        summary += f"; {choice.facts['int8_ms']} ms on integers, {choice.facts['float_ms']} ms in float"
    changed = bool(plan.quantized) or (choice is not None and bool(choice.dynamic))
    return StepResult(final, changed, summary, facts=facts, refusals=result.refusals, plan=plan.to_text())


def _declined(choice: Choice, program: Program) -> StepResult:
    """The float network, and why."""
    facts = choice.facts
    summary = f"left float: {facts['int8_ms']} ms on integers, {facts['float_ms']} ms in float"
    return StepResult(program, False, summary, facts=facts, refusals=choice.refusals, declined=True)


def _dynamic(config: Quantize, program: Program, capability: Capability) -> StepResult:
    """Integers for weights, ranges of activations by the runtime."""
    marked, refused = dynamic(program, capability, config.keep_float)
    layers = marked.plans.get(DYNAMIC, {}).get("nodes", [])
    summary = f"{len(layers)} layers quantized dynamically"
    plan = "\n".join([summary, *(f"  {name}" for name in layers)])
    return StepResult(
        marked, bool(layers), summary, facts={"dynamic_layers": len(layers)}, refusals=tuple(refused), plan=plan
    )


def quant_options(config: Quantize, seed: int) -> QuantOptions:
    """The settings of a recipe's step as `quantize` takes them."""
    wish = config.mixed
    mixed = None if wish is None else Mixed(wish.average_bits, wish.max_loss, wish.widths, wish.cost)
    return QuantOptions(
        weight_bits=config.weight_bits,
        activation_bits=config.activation_bits,
        rounding=config.rounding,
        rounding_samples=config.samples or QuantOptions.rounding_samples,
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
