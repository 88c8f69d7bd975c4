"""Measurements turned into one number with limits, ready to be held against a budget."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from edgepress.gate.budget import LimitKind
from edgepress.gate.metrics import is_machine_bound, percentile_share
from edgepress.measure.record import ClassOutcome, Measurement, PairedOutcomes
from edgepress.measure.stats.pairing import Discordance, discordance, same_samples
from edgepress.measure.stats.proportions import (
    Interval,
    drop_p_value,
    holm,
    mcnemar_exact,
    normal_quantile,
    paired_drop,
    wilson,
)

BETWEEN_RUNS = 0.0266
"""Relative standard deviation of the same model's latency between processes on one quiet machine: memory layout, clock
and neighbours differ from run to run, and no number of repeats within a run shows it."""

RECORDED_ERROR_RATE = 0.025
"""Measurements carry 95 % intervals."""


class Finding(NamedTuple):
    """A value, ratio or drop with limits at the gate's error rate.

    Attributes:
        interval: its ends are `None` where the data cannot support them; then `reason` says why.
        method: how the interval was obtained, in words.
        remark: what else the evidence says (a McNemar p-value, the classes that fail).
        shown: `False` where even the estimate has no support (a percentile of too few samples).
    """

    interval: Interval
    unit: str
    n: int
    method: str
    remark: str = ""
    reason: str = ""
    shown: bool = True


def is_exact(measurement: Measurement) -> bool:
    """Whether a measurement carries no sampling error: it was counted, or is a single measured number of bytes."""
    if measurement.source != "measured":
        return True
    single = measurement.n <= 1 and measurement.low is None and not measurement.samples
    return single and measurement.unit in ("bytes", "count")


def estimate(measurement: Measurement, error_rate: float) -> Finding:
    """The measurement's value with limits at `error_rate`."""
    value = float(measurement.value or 0.0)
    if is_exact(measurement):
        return Finding(Interval(value, value, value), measurement.unit, measurement.n, measurement.method or "counted")
    share = percentile_share(measurement.name)
    if share and measurement.samples:
        return _percentile(measurement, share, error_rate)
    interval, method = _interval(measurement, value, error_rate)
    reason = "" if None not in interval else f"{measurement.n} observations do not support an interval"
    return Finding(interval, measurement.unit, measurement.n, method, reason=reason)


def _percentile(measurement: Measurement, share: float, error_rate: float) -> Finding:
    from edgepress.measure.stats.quantities import quantile

    n = len(measurement.samples)
    interval = quantile(measurement.samples, share, error_rate)
    supported = None not in interval
    reason = "" if supported else f"{n} samples do not support a {100 * share:g}th percentile"
    return Finding(interval, measurement.unit, n, "order statistics", reason=reason, shown=supported)


def _interval(measurement: Measurement, value: float, error_rate: float) -> tuple[Interval, str]:
    if measurement.blocks:
        from edgepress.measure.stats.jackknife import around

        return around(value, measurement.blocks, error_rate), f"jackknife over {len(measurement.blocks)} blocks"
    if measurement.samples:  # better than a recorded interval: neighbours may be correlated
        from edgepress.measure.stats.quantities import location

        return location(measurement.samples, error_rate), "trimmed mean, moving-block bootstrap"
    if measurement.low is not None or measurement.high is not None:
        low, high = (_rescaled(value, end, error_rate) for end in (measurement.low, measurement.high))
        return Interval(value, low, high), "recorded interval"
    if measurement.unit == "ratio" and measurement.n > 1 and 0 <= value <= 1:
        return wilson(value * measurement.n, measurement.n, error_rate), "Wilson score interval"
    return Interval(value, None, None), "single observation"


def _rescaled(value: float, limit: float | None, error_rate: float) -> float | None:
    """A 95 % confidence limit moved to another error rate along its own arm."""
    if limit is None:
        return None
    return value + (limit - value) * normal_quantile(error_rate) / normal_quantile(RECORDED_ERROR_RATE)


def ratio(reference: Measurement, measurement: Measurement, error_rate: float, *, paired: bool) -> Finding:
    """measurement / reference.

    Args:
        paired: both are of one run, and their i-th samples were taken together (interleaved, or on the same input).
    """
    from edgepress.measure.stats.quantities import paired_ratio, unpaired_ratio

    if _same_blocks(reference, measurement) and min(reference.value or 0, measurement.value or 0) > 0:
        return _block_ratio(reference, measurement, error_rate)
    first, second = reference.samples, measurement.samples
    percentile = percentile_share(measurement.name) > 0
    if paired and not percentile and len(first) == len(second) > 0 and min(*first, *second) > 0:
        interval = paired_ratio(first, second, error_rate)
        words = "trimmed mean of interleaved log ratios, moving-block bootstrap"
        reason = "" if None not in interval else f"{len(first)} pairs do not support an interval"
        return Finding(interval, "ratio", len(first), words, reason=reason)
    one, two = _sides(reference, measurement, error_rate, same_run=paired)
    if one.interval.value <= 0:
        nothing = Interval(math.inf, None, None)
        reason = "the baseline's value is 0: no ratio to it exists"
        return Finding(nothing, "ratio", 0, "", reason=reason, shown=False)
    words = "exact" if is_exact(reference) and is_exact(measurement) else "unpaired, delta method on logs"
    reason = two.reason or one.reason
    interval, n, shown = unpaired_ratio(one.interval, two.interval), min(one.n, two.n), one.shown and two.shown
    return Finding(interval, "ratio", n, words, two.remark, reason, shown)


def drop(reference: Measurement, measurement: Measurement, error_rate: float, *, same_run: bool) -> Finding:
    """How much worse `measurement` is than `reference`: sample by sample where both kept their answers to the same
    samples, else from two independent intervals."""
    counts = discordance(reference, measurement)
    if counts:
        return discordant_drop(counts, error_rate)
    if _same_blocks(reference, measurement):
        return _block_drop(reference, measurement, error_rate)
    one, two = _sides(reference, measurement, error_rate, same_run=same_run)
    sign = 1 if measurement.better == "lower" else -1
    value = sign * (two.interval.value - one.interval.value)
    reason = one.reason or two.reason
    if None in one.interval or None in two.interval:
        return Finding(Interval(value, None, None), measurement.unit, min(one.n, two.n), "", reason=reason)
    ends = [_arm(two, sign), _arm(one, -sign)], [_arm(two, -sign), _arm(one, sign)]
    up, down = (math.hypot(*arms) for arms in ends)
    words = "exact" if up == down == 0 else "unpaired, root sum of squares of both intervals"
    interval = Interval(value, value - down, value + up)
    return Finding(interval, measurement.unit, min(one.n, two.n), words, two.remark)


def _same_blocks(first: Measurement, second: Measurement) -> bool:
    return same_samples(first, second) and len(first.blocks) == len(second.blocks) > 0


def _block_drop(reference: Measurement, measurement: Measurement, error_rate: float) -> Finding:
    from edgepress.measure.stats.jackknife import paired_difference

    sign = 1 if measurement.better == "lower" else -1
    first, second = ([sign * b for b in one.blocks] for one in (reference, measurement))
    value = sign * (float(measurement.value or 0) - float(reference.value or 0))
    interval = paired_difference(first, second, value, error_rate)
    return Finding(interval, measurement.unit, measurement.n, _in_blocks(measurement))


def _block_ratio(reference: Measurement, measurement: Measurement, error_rate: float) -> Finding:
    from edgepress.measure.stats.jackknife import paired_ratio

    values = (float(reference.value or 0), float(measurement.value or 0))
    interval = paired_ratio(reference.blocks, measurement.blocks, values, error_rate)
    return Finding(interval, "ratio", measurement.n, _in_blocks(measurement))


def _in_blocks(measurement: Measurement) -> str:
    return f"paired, jackknife over {len(measurement.blocks)} blocks of samples"


def _sides(first: Measurement, second: Measurement, error_rate: float, *, same_run: bool) -> tuple[Finding, Finding]:
    method = estimate if same_run else _of_another_run
    return method(first, error_rate), method(second, error_rate)


def _of_another_run(measurement: Measurement, error_rate: float) -> Finding:
    """An estimate that is compared with one of another run: two processes differ by more than repeats within one."""
    finding = estimate(measurement, error_rate)
    value, low, high = finding.interval
    if not is_machine_bound(measurement) or low is None or high is None:
        return finding
    luck = normal_quantile(error_rate) * BETWEEN_RUNS * value
    return finding._replace(
        interval=Interval(value, value - math.hypot(value - low, luck), value + math.hypot(high - value, luck)),
        remark=f"allows for {100 * BETWEEN_RUNS:g} % between runs; gate against the baseline's model to be sharper",
    )


def _arm(finding: Finding, side: int) -> float:
    value, low, high = finding.interval
    return abs(float((high if side > 0 else low) or 0.0) - value)


def outcome_drop(outcomes: PairedOutcomes, error_rate: float) -> Finding:
    """Drop in accuracy between two models of one run."""
    return discordant_drop(Discordance(outcomes.only_first, outcomes.only_second, outcomes.n), error_rate)


def discordant_drop(counts: Discordance, error_rate: float) -> Finding:
    """Drop in accuracy on the same samples: Tango's score interval, with McNemar's exact test as a remark."""
    b, c, n = counts
    p = mcnemar_exact(b, c)
    remark = f"{b} samples lost, {c} gained; McNemar exact p = {p:.2g}"
    return Finding(paired_drop(b, c, n, error_rate), "ratio", n, "paired, Tango score interval", remark)


def worst_accuracy(groups: Sequence[ClassOutcome], error_rate: float) -> Finding:
    """Lowest accuracy of the second model over classes or slices.

    Its upper limit is corrected for having searched (Bonferroni; Holm's first step), its lower one needs no correction:
    it is wrong only if the limit of the truly worst group is.
    """
    intervals = _per_group(groups, lambda o, rate: wilson(o.both + o.only_second, o.n, rate), error_rate)
    low = min(float(wide.low or 0.0) for _, wide, _ in intervals)
    high = min(float(narrow.high or 0.0) for _, _, narrow in intervals)
    group, worst, _ = min(intervals, key=lambda item: item[1].value)
    return _of_groups(groups, Interval(worst.value, low, high), f"worst is {group.label}")


def worst_drop(groups: Sequence[ClassOutcome], margin: float, error_rate: float) -> Finding:
    """Largest drop in accuracy over classes or slices; limits as in `worst_accuracy`, mirrored."""
    intervals = _per_group(groups, lambda o, rate: paired_drop(o.only_first, o.only_second, o.n, rate), error_rate)
    low = max(float(narrow.low or 0.0) for _, _, narrow in intervals)
    high = max(float(wide.high or 0.0) for _, wide, _ in intervals)
    group, worst, _ = max(intervals, key=lambda item: item[1].value)
    p_values = holm([drop_p_value(o.only_first, o.only_second, o.n, margin) for o in (g.outcomes for g in groups)])
    guilty = [g.label for g, p in zip(groups, p_values, strict=True) if p <= error_rate]
    remark = f"worst is {group.label}" + (f"; beyond the margin after Holm: {', '.join(guilty)}" if guilty else "")
    return _of_groups(groups, Interval(worst.value, low, high), remark)


def _per_group(
    groups: Sequence[ClassOutcome], method: Callable[[PairedOutcomes, float], Interval], error_rate: float
) -> list[tuple[ClassOutcome, Interval, Interval]]:
    """(group, interval at the error rate, interval at the error rate shared among all groups)."""
    shared = error_rate / len(groups)
    return [(g, method(g.outcomes, error_rate), method(g.outcomes, shared)) for g in groups]


def _of_groups(groups: Sequence[ClassOutcome], interval: Interval, remark: str) -> Finding:
    smallest = min(group.outcomes.n for group in groups)
    return Finding(interval, "ratio", smallest, f"{len(groups)} groups, corrected for searching them", remark)


def holds(kind: LimitKind, interval: Interval, limit: float) -> bool | None:
    """Whether the limit is kept: `True` or `False` beyond the error rate, `None` where the interval straddles it."""
    _, low, high = interval
    if kind in ("min", "min_ratio"):
        low, high, limit = _negative(high), _negative(low), -limit
    if high is not None and high <= limit:
        return True
    return False if low is not None and low > limit else None


def _negative(value: float | None) -> float | None:
    return None if value is None else -value
