"""Post-training quantization: fold, place, calibrate, round, insert."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from edgepress.errors import UserError
from edgepress.ir.program import Program, Refusal
from edgepress.ir.quant_plan import QuantPlan
from edgepress.passes.drop_identity import drop_identity
from edgepress.passes.fold_batchnorm import fold_batchnorm
from edgepress.passes.insert_qdq import insert_qdq
from edgepress.passes.learn_scales import plan_of
from edgepress.passes.spatial_means import spatial_means
from edgepress.quantize.calibrate import Batch, calibrate, no_data
from edgepress.quantize.correct_biases import correct_biases
from edgepress.quantize.equalize import equalize
from edgepress.quantize.mixed import mixed_bits
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.place import place
from edgepress.quantize.reconstruct import Tuning, reconstruct
from edgepress.quantize.round_layers import round_layers
from edgepress.quantize.smooth import activation_aware, smooth
from edgepress.targets.capability import Capability


@dataclass(frozen=True)
class QuantizeResult:
    """What quantization gives back.

    Attributes:
        program: with Q/DQ inside; its outputs are those of the integer arithmetic.
        reference: the float program the plan was placed for: `program` without its Q/DQ, as `diagnose` wants it.
        plan: every decision, with scales. refusals: what stayed float, and why. facts: small numbers for the report.
    """

    program: Program
    plan: QuantPlan
    refusals: tuple[Refusal, ...]
    facts: Mapping[str, float | int | str]
    reference: Program


def quantize(
    program: Program, options: QuantOptions, capability: Capability, batches: Iterable[Batch]
) -> QuantizeResult:
    """Quantize `program` for the target that `capability` describes.

    Args:
        batches: calibration data, tuples of input tensors; read once unless an option needs more than ranges.

    Raises:
        UserError: no calibration data, or data or weights that are not finite. Nothing to quantize is no error but a
            result whose `refusals` say why.
    """
    if capability.weight.dtype == "float8e4m3fn" and (options.rounds_by_output or options.awq):
        raise UserError(f"{capability.name} rounds to float8 numbers only",
                        found="fewer bits, rounding by output or awq",
                        expected="weight_bits: 8, rounding: nearest",
                        fix="leave these out, or choose an integer target")  # fmt: skip
    stream, kept = _with_first(batches, _samples_needed(options))
    if not kept and _samples_needed(options):
        raise no_data()
    prepared, plan, refused = rewritten(prepare(program), capability, options, kept)
    power_of_two = capability.activation.power_of_two
    plan = calibrate(prepared, plan, stream, observer=options.observer, power_of_two=power_of_two, told=refused)
    found, current = facts(plan), prepared
    if options.rounds_by_output and plan.weights:
        rounded = round_layers(prepared, plan, kept, samples=options.rounding_samples)
        current, plan = rounded.program, rounded.plan
        gain = sorted(rounded.improvement.values())[len(rounded.improvement) // 2]
        found["median_output_error_ratio"] = round(1 / max(gain, 1e-12), 4)
    if options.correct_biases and plan.weights:
        current, plan = correct_biases(prepared, current, plan, kept, samples=options.rounding_samples)
    quantized = insert_qdq(current, plan).program
    if options.reconstruct_steps and options.rounds_by_output and plan.weights:
        tuning = Tuning(steps=options.reconstruct_steps, seed=options.seed)
        quantized = reconstruct(quantized, prepared, kept, tuning)
        plan = plan_of(quantized)
    return QuantizeResult(quantized, plan, (*refusals(plan), *refused), found, prepared)


def rewritten(
    prepared: Program, capability: Capability, options: QuantOptions, batches: Sequence[Batch]
) -> tuple[Program, QuantPlan, list[Refusal]]:
    """The float program with its channels rescaled as the options ask, the plan placed for it, and what was refused."""
    refused: list[Refusal] = []
    if options.equalize:
        done = equalize(prepared)
        prepared, refused = done.program, [*done.refusals]
    if options.smooth is not None:
        done = smooth(prepared, batches, options.smooth)
        prepared, refused = done.program, [*refused, *done.refusals]
    plan = place(prepared, capability, options)
    if options.mixed is not None:
        widest = place(prepared, capability, replace(options, weight_bits=8, edge_bits=None))
        chosen = mixed_bits(prepared, widest, batches, options.mixed)
        plan = place(prepared, capability, replace(options, layer_bits=chosen))
    if options.awq:
        done = activation_aware(prepared, plan, batches)
        prepared, refused = done.program, [*refused, *done.refusals]
    return prepared, plan, refused


def _samples_needed(options: QuantOptions) -> int:
    """How many calibration samples are looked at more than once."""
    looks = (options.mixed, options.awq, options.correct_biases, options.smooth is not None)
    if not options.rounds_by_output and not any(looks):
        return 0
    return max(options.rounding_samples, Tuning().samples if options.reconstruct_steps else 0)


def _with_first(batches: Iterable[Batch], samples: int) -> tuple[Iterator[Batch], list[Batch]]:
    """All batches as a stream, and those that hold the first `samples` samples."""
    stream, kept, count = iter(batches), list[Batch](), 0
    while count < samples and (batch := next(stream, None)) is not None:
        kept.append(batch)
        count += len(batch[0])
    return chain(kept, stream), kept


def prepare(program: Program) -> Program:
    """Batch norms folded, dropout and copies removed, means over images written as pooling: what placement expects."""
    for rewrite in (drop_identity, fold_batchnorm, spatial_means):
        program = rewrite(program).program
    return program


def refusals(plan: QuantPlan) -> tuple[Refusal, ...]:
    """The nodes that stay float, as refusals."""
    return tuple(Refusal(f"{n.node} ({n.op})", n.found, n.needed) for n in plan.float_nodes)


def facts(plan: QuantPlan) -> dict[str, float | int | str]:
    """Counts for the report."""
    return {
        "nodes_quantized": len(plan.quantized),
        "nodes_float": len(plan.float_nodes),
        "weights_quantized": len(plan.weights),
        "activations_quantized": len(plan.activations),
        "target": plan.target,
        **({"ranges": plan.ranges} if plan.ranges else {}),
    }
