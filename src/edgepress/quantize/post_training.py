"""Post-training quantization: fold, place, calibrate, round, insert."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from edgepress.ir.program import Program, Refusal
from edgepress.ir.quant_plan import QuantPlan
from edgepress.passes.drop_identity import drop_identity
from edgepress.passes.fold_batchnorm import fold_batchnorm
from edgepress.passes.insert_qdq import insert_qdq
from edgepress.passes.learn_scales import plan_of
from edgepress.passes.spatial_means import spatial_means
from edgepress.quantize.calibrate import Batch, calibrate
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.place import place
from edgepress.quantize.reconstruct import Tuning, reconstruct
from edgepress.quantize.round_layers import round_layers
from edgepress.targets.capability import Capability


@dataclass(frozen=True)
class QuantizeResult:
    """What quantization gives back.

    Attributes:
        program: with Q/DQ inside; its outputs are those of the integer arithmetic.
        plan: every decision, with scales. refusals: what stayed float, and why. facts: small numbers for the report.
    """

    program: Program
    plan: QuantPlan
    refusals: tuple[Refusal, ...]
    facts: Mapping[str, float | int | str]


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
    prepared = prepare(program)
    plan = place(prepared, capability, options)
    kept: list[Batch] = []
    stream = _keeping(batches, kept, _samples_needed(options))
    power_of_two = capability.activation.power_of_two
    plan = calibrate(prepared, plan, stream, observer=options.observer, power_of_two=power_of_two)
    found = facts(plan)
    if not options.rounds_by_output or not plan.weights:
        return QuantizeResult(insert_qdq(prepared, plan).program, plan, refusals(plan), found)
    if not plan.activations:  # nothing was observed, so nothing was read yet
        deque(stream, maxlen=0)
    rounded = round_layers(prepared, plan, kept, samples=options.rounding_samples)
    quantized = insert_qdq(rounded.program, rounded.plan).program
    if options.reconstruct_steps:
        tuning = Tuning(steps=options.reconstruct_steps, seed=options.seed)
        quantized = reconstruct(quantized, prepared, kept, tuning)
    gain = sorted(rounded.improvement.values())[len(rounded.improvement) // 2]
    found["median_output_error_ratio"] = round(1 / max(gain, 1e-12), 4)
    return QuantizeResult(quantized, plan_of(quantized), refusals(plan), found)


def _samples_needed(options: QuantOptions) -> int:
    """How many calibration samples later stages want to see again."""
    if not options.rounds_by_output:
        return 0
    return max(options.rounding_samples, Tuning().samples if options.reconstruct_steps else 0)


def _keeping(batches: Iterable[Batch], kept: list[Batch], samples: int) -> Iterator[Batch]:
    """Hand batches on, and keep the first ones up to `samples` samples."""
    count = 0
    for batch in batches:
        if count < samples:
            kept.append(batch)
            count += len(batch[0])
        yield batch


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
    }
