"""How a quantize step uses the guard, and what a run says of a quantized network that is not faster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from edgepress.errors import NotFaster
from edgepress.ir import Program, Refusal
from edgepress.ir.text import op_name
from edgepress.measure.record import Measurement
from edgepress.passes.mark_dynamic import mark_dynamic
from edgepress.pipeline.bench import Bench
from edgepress.pipeline.first_samples import first_feed
from edgepress.pipeline.guard import Choice, Guard, can_time
from edgepress.pipeline.kernels import profile
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import QuantizeResult, prepare, quantize
from edgepress.targets.capability import Capability, load_capability

SAMPLES = 64  # of calibration data for versions that are only timed


def look_for_gain(program: Program, options: QuantOptions, bench: Bench, *, must: bool) -> Choice | None:
    """What pays on the first target, or `None` where the target cannot be timed from here.

    Times hardly depend on the values of weights, so the versions that are timed are rounded to nearest.

    Args:
        must: fail where nothing pays.

    Raises:
        NotFaster: nothing pays, and something must.
    """
    if not can_time(bench.target):
        return None
    capability = load_capability(bench.target.capability)
    batches = [inputs for inputs, _ in bench.calibration_batches(SAMPLES)]
    plain = QuantOptions(activation_bits=options.activation_bits, keep_float=options.keep_float)

    def make(slow: Mapping[str, str]) -> QuantizeResult:
        return quantize(program, replace(plain, slow=slow), capability, batches)

    choice = Guard(program, make, batches[0], bench.target).choose()
    if must and choice.outcome != "integers":
        facts, more = choice.facts, map(str, choice.refusals[1:4])
        raise NotFaster(
            f"the network is not faster on integers on {bench.target.name}",
            found="; ".join([f"int8 {facts['int8_ms']} ms, float {facts['float_ms']} ms", *more]),
            expected="clearly less time than in float, and no more bytes",
            fix="set when_slower: float, or remove the step",
        )
    return choice


def dynamic(program: Program, capability: Capability, keep: tuple[str, ...]) -> tuple[Program, list[Refusal]]:
    """The program with every layer that the target quantizes dynamically marked, and what stays float."""
    program = prepare(program)
    able = [n for n in program.nodes if op_name(n) in capability.dynamic_ops and n.name not in keep]
    refused = [
        Refusal(f"{n.name} ({op_name(n)})", "the target does not quantize it dynamically", "scheme: int8")
        for n in program.nodes
        if n not in able and (rule := capability.rule(op_name(n))) is not None and rule.role == "compute"
    ]
    return mark_dynamic(program, [n.name for n in able]).program, refused


def latency_on(measurements: Iterable[Measurement], target: str) -> Measurement | None:
    """The latency measured on a target, or `None`."""
    return next((m for m in measurements if m.name == "latency_ms" and m.target == target), None)


def slower_notes(
    baseline: Program, compressed: Program, artifacts: tuple[Path, Path],
    latencies: tuple[Measurement | None, Measurement | None], bench: Bench,
) -> Iterator[str]:  # fmt: skip
    """Why a quantized artifact is not faster than the float one, for the report; nothing where it is.

    Args:
        artifacts, latencies: of baseline and compressed, on the first target.
    """
    floating, integer = (m.value if m else None for m in latencies)
    if "quantize" not in compressed.plans or not can_time(bench.target) or floating is None or integer is None:
        return
    if integer < floating:
        return
    yield f"int8 is not faster than float on {bench.target.name}: {integer:.4g} ms, float {floating:.4g} ms"
    inputs, _ = next(bench.calibration_batches(1))
    feed = first_feed(baseline, inputs)
    prepared = prepare(baseline)
    taken = profile(prepared, compressed, artifacts[1], bench.target, feed, compressed.plans["quantize"]["quantized"])
    conversions = sum(taken.conversions.values())
    share = conversions / max(taken.total, 1e-9)
    yield f"{len(taken.conversions)} conversions between integers and floats take {share:.0%} of its kernels' time"
    if taken.fell_back:
        yield "computed in float between conversions: " + ", ".join(taken.fell_back[:8])
    yield "when_slower: float in the quantize step keeps float what does not pay"
