"""Post-training quantization: fold, place, calibrate, insert."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edgepress.ir.program import Program, Refusal
from edgepress.ir.quant_plan import QuantPlan
from edgepress.passes.drop_identity import drop_identity
from edgepress.passes.fold_batchnorm import fold_batchnorm
from edgepress.passes.insert_qdq import insert_qdq
from edgepress.passes.spatial_means import spatial_means
from edgepress.quantize.calibrate import Batch, calibrate
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.place import place
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
        UserError: no calibration data, data or weights that are not finite, nothing to quantize is not an error but a
            result whose `refusals` say why.
    """
    prepared = prepare(program)
    plan = place(prepared, capability, options)
    power_of_two = capability.activation.power_of_two
    plan = calibrate(prepared, plan, batches, observer=options.observer, power_of_two=power_of_two)
    return QuantizeResult(insert_qdq(prepared, plan).program, plan, refusals(plan), facts(plan))


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
