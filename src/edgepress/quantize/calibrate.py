"""Fill the scales of a plan: activations from batches, weights and biases from the program itself."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch

from edgepress.errors import UserError
from edgepress.ir.program import Program, Refusal
from edgepress.ir.quant_plan import ActivationPoint, BiasPoint, QuantPlan, WeightPoint
from edgepress.quantize import operands
from edgepress.quantize.choose_ranges import JUDGES, choose_rule
from edgepress.quantize.observers import CLIPS, OBSERVERS, Extremes, Histogram, NotFinite, extremes
from edgepress.quantize.qparams import affine, channel_view, point_scales
from edgepress.quantize.watch import Watched

Batch = Sequence[torch.Tensor]
# Biases stay below this many steps of the accumulator, half of what int32 holds: the other half is for the sum.
BIAS_STEPS = 2**30
AUTO = "auto"
RULES = ("minmax", "percentile", "mse")


def calibrate(
    program: Program,
    plan: QuantPlan,
    batches: Iterable[Batch],
    *,
    observer: str = "minmax",
    power_of_two: bool = False,
    told: list[Refusal] | None = None,
) -> QuantPlan:
    """The plan with every scale filled in.

    Args:
        program: the program the plan was placed for. batches: tuples of input tensors; read once, one at a time.
        observer: a key of `observers.OBSERVERS`; with `auto` the rule that leaves least noise at the outputs of the
            first samples (see `choose_ranges`).
        told: takes up the activations whose range is so wide that most values fall on one integer.

    Raises:
        UserError: no batches, or infinities or NaNs in the weights or in what the network computes.
    """
    check_weights(program, plan)
    stream, first = iter(batches), list[Batch]()
    if observer == AUTO:
        stream = _keeping(stream, first, JUDGES)
    ranges = observe(program, plan, stream, observer)
    if observer == AUTO and first and ranges:
        plan, ranges = _least_noise(program, plan, ranges, first, power_of_two)
    plan = _with_scales(program, plan, ranges, power_of_two)
    if told is not None:
        told += (_too_wide(point, ranges[point.group]) for point in plan.activations if _is_wide(point, ranges))
    return plan


def _with_scales(program: Program, plan: QuantPlan, ranges: Mapping[str, Extremes], power_of_two: bool) -> QuantPlan:
    """The plan with every scale that follows from these ranges."""
    fixed = {point.group: point for point in plan.activations if point.scale is not None}
    activations = tuple(
        _with_scale(point, ranges.get(point.group), fixed.get(point.group), power_of_two) for point in plan.activations
    )
    return scale_weights(program, plan.model_copy(update={"activations": activations}))


def _keeping(batches: Iterator[Batch], kept: list[Batch], samples: int) -> Iterator[Batch]:
    """The same batches; those that hold the first `samples` samples are remembered."""
    count = 0
    for batch in batches:
        if count < samples:
            kept.append(batch)
            count += len(batch[0])
        yield batch


def _least_noise(
    program: Program, plan: QuantPlan, ranges: Mapping[str, Extremes], batches: Sequence[Batch], power_of_two: bool
) -> tuple[QuantPlan, dict[str, Extremes]]:
    """The plan with the reason, and the ranges by the rule that leaves least noise at the outputs."""
    by_rule = {rule: {group: _cut(seen, rule) for group, seen in ranges.items()} for rule in RULES}
    plans = {rule: _with_scales(program, plan, found, power_of_two) for rule, found in by_rule.items()}
    choice = choose_rule(program, plans, _few(program, batches))
    return plan.model_copy(update={"ranges": f"{choice.rule}: {choice.why}"}), by_rule[choice.rule]


def _cut(seen: Extremes, rule: str) -> Extremes:
    assert isinstance(seen, Histogram)
    return replace(seen, clip=CLIPS.get(rule, extremes))


def _few(program: Program, batches: Sequence[Batch]) -> list[Batch]:
    """`JUDGES` samples, or whole batches where the network takes no others."""
    if not program.dynamic_batch():
        return [*batches]
    return [tuple(t[:JUDGES] for t in batches[0])] if len(batches[0][0]) >= JUDGES else [*batches]


def _is_wide(point: ActivationPoint, ranges: Mapping[str, Extremes]) -> bool:
    """Whether the usual value of what was observed is below one step of its grid."""
    seen = ranges.get(point.group)
    return point.source and seen is not None and point.scale is not None and 0 < seen.usual < point.scale


def _too_wide(point: ActivationPoint, seen: Extremes) -> Refusal:
    return Refusal(
        point.node,
        f"values reach from {seen.low:.4g} to {seen.high:.4g}, but {seen.usual:.2g} is usual: less than one step",
        "calibration data without outliers, an observer that cuts them (percentile, mse), or keep_float",
    )


def observe(program: Program, plan: QuantPlan, batches: Iterable[Batch], observer: str) -> dict[str, Extremes]:
    """Group -> what was seen of its sources.

    Raises:
        UserError: see `calibrate`.
    """
    open_points = [p for p in plan.activations if p.source and p.scale is None]
    seen = {p.group: OBSERVERS[observer]() for p in open_points}
    if not seen:
        return {}
    watched = Watched(program, {p.node: partial(_look, seen[p.group], p.node) for p in open_points})
    count = 0
    for count, batch in enumerate(batches, 1):
        try:
            watched.outputs(batch)
        except _Broken as broken:
            raise _not_finite(count, broken) from broken
    if not count:
        raise no_data()
    return seen


def no_data() -> UserError:
    """The error of a calibration without samples."""
    return UserError("no calibration data", found="0 batches", expected="at least one",
                     fix="name a data source under `calibration`")  # fmt: skip


class _Broken(Exception):
    """A node computed something that is not finite."""

    def __init__(self, node: str, found: NotFinite) -> None:
        super().__init__(node)
        self.node, self.found = node, found


def _look(observer: Extremes, node: str, value: torch.Tensor) -> None:
    try:
        observer.update(value)
    except NotFinite as found:
        raise _Broken(node, found) from found


def _not_finite(batch: int, broken: _Broken) -> UserError:
    return UserError(
        f"calibration batch {batch} makes {broken.node} infinite or NaN",
        found=str(broken.found),
        expected="finite values everywhere",
        fix="check the calibration data and its normalization, or keep this layer float (keep_float)",
    )


def check_weights(program: Program, plan: QuantPlan) -> None:
    """Every tensor to be quantized is finite.

    Raises:
        UserError: naming the first that is not.
    """
    state = program.state()
    for tensor in [w.tensor for w in plan.weights] + [b.tensor for b in plan.biases]:
        bad = int((~torch.isfinite(state[tensor])).sum())
        if bad:
            raise UserError(f"{tensor} is not finite", found=f"{bad} infinities or NaNs", expected="finite weights",
                            fix="train again, or keep this layer float (keep_float)")  # fmt: skip


def _with_scale(
    point: ActivationPoint, seen: Extremes | None, fixed: ActivationPoint | None, power_of_two: bool
) -> ActivationPoint:
    """What was seen decides; a moved copy of a value whose grid the runtime fixes (a sigmoid's) has that grid."""
    if point.scale is not None:
        return point
    if seen is None:
        given = (fixed.scale, fixed.zero_point) if fixed else (None, 0)
        return point.model_copy(update={"scale": given[0], "zero_point": given[1]})
    scale, zero = affine(*seen.range(point.grid), point.grid, power_of_two=power_of_two)
    return point.model_copy(update={"scale": scale, "zero_point": zero})


def scale_weights(program: Program, plan: QuantPlan, chosen: Mapping[str, torch.Tensor] | None = None) -> QuantPlan:
    """The plan with the scales of weights and biases. Activations must have theirs.

    Args:
        chosen: scales of some weights by tensor name, where they were searched or learned; the others are min-max.
    """
    state, shared = program.state(), _fixed_groups(plan)
    scales: dict[str, torch.Tensor] = {}
    for weight in plan.weights:
        given = (chosen or {}).get(weight.tensor)
        plain = point_scales(state[weight.tensor], weight) if given is None else given
        scales[weight.tensor] = _room_for_bias(program, plan, weight, plain, shared)
    weights = tuple(w.model_copy(update={"scales": _numbers(scales[w.tensor])}) for w in plan.weights)
    biases = tuple(_bias_scales(program, b, scales[b.weight], shared) for b in plan.biases)
    return plan.model_copy(update={"weights": weights, "biases": biases})


def _fixed_groups(plan: QuantPlan) -> dict[str, float]:
    """Node -> activation scale."""
    return {p.node: p.scale for p in plan.activations if p.scale is not None}


def _room_for_bias(
    program: Program, plan: QuantPlan, weight: WeightPoint, scales: torch.Tensor, activation: dict[str, float]
) -> torch.Tensor:
    """Scales no smaller than what keeps each bias inside int32 (tiny weights beside a large bias)."""
    for bias in plan.biases:
        source = _input_of(program, bias)
        if bias.weight == weight.tensor and source in activation:
            reach = channel_view(program.state()[bias.tensor].detach(), 0).abs().amax(1)
            floor = reach / (activation[source] * BIAS_STEPS)
            scales = torch.maximum(scales, floor if weight.axis is not None else floor.max())
    return scales


def _bias_scales(program: Program, bias: BiasPoint, weight: torch.Tensor, activation: dict[str, float]) -> BiasPoint:
    return bias.model_copy(update={"scales": _numbers(weight * activation[_input_of(program, bias)])})


def _input_of(program: Program, bias: BiasPoint) -> str:
    """What the bias's own layer reads: layers that share a weight need not share the scale of their inputs."""
    reader = next(node for node in program.nodes if node.name == bias.node)
    return operands.activations(program, reader)[0].name


def _numbers(scales: torch.Tensor) -> tuple[float, ...]:
    return tuple(float(s) for s in scales.reshape(-1).float())
