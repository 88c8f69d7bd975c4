"""What was gained and lost: each metric of the baseline beside the compressed model's."""

import math
from typing import Literal, NamedTuple

from edgepress.gate.finding import is_exact, outcome_drop
from edgepress.gate.metrics import ACCURACY_NAMES, find
from edgepress.gate.wording import quantity
from edgepress.measure.record import Evidence, Measurement, PairedOutcomes
from edgepress.report.names import title

Direction = Literal["better", "worse", "same", "unclear", "unknown"]
"""`unclear`: the difference lies within the noise; colour would promise more than the data hold."""

WITHIN_NOISE = "within the noise"

COSTS = ("macs", "params", "weight_bytes")
"""Counted around every step; what else a step reports is the task's quality."""

TILES = ("size_bytes", "latency_ms", "macs", "energy_mj", "params", "throughput_per_s")


class Change(NamedTuple):
    """One row of "gained and lost".

    Attributes:
        before, after, difference, interval: in words. direction: whether the change is an improvement.
        ratio: after / before, where both are known and positive.
        shift: -1 to 1, for a bar: the change on a log scale (8x fills it), or in points (10 points fill it).
    """

    metric: str
    label: str
    before: str
    after: str
    difference: str
    direction: Direction
    ratio: float | None
    shift: float
    interval: str
    method: str
    source: str
    remark: str = ""


def changes(evidence: Evidence) -> list[Change]:
    """All metrics of either subject, quality first; params and MACs from the layers if need be."""
    subjects = (evidence.compressed, evidence.baseline)
    keys = dict.fromkeys((m.name, m.target) for subject in subjects for m in subject.measurements)
    keys |= dict.fromkeys((name, "") for name in ("params", "macs") if not any(key[0] == name for key in keys))
    pairs = ((key, [find(subject, evidence, *key) for subject in reversed(subjects)]) for key in keys)
    rows = [_change(*key, before, after) for key, (before, after) in pairs if before or after]
    rows = _unknown_once(rows)
    judged = [
        _paired(row, evidence.paired) if evidence.paired and row.metric in ACCURACY_NAMES else row for row in rows
    ]
    return sorted(judged, key=lambda row: row.metric != quality(evidence))


def _unknown_once(rows: list[Change]) -> list[Change]:
    """Without the rows that say a second time that nothing is known, for the same reason."""
    seen: set[str] = set()
    kept = []
    for row in rows:
        silent = row.source == "unknown" and row.before in ("unknown", "–")
        if not silent or row.method not in seen:
            kept.append(row)
        seen |= {row.method} if silent else set()
    return kept


def _paired(row: Change, outcomes: PairedOutcomes) -> Change:
    """Accuracies of the same samples differ by less than their own intervals suggest: judge the drop instead."""
    _, low, high = outcome_drop(outcomes, 0.025).interval
    clear = low is not None and high is not None and not low <= 0 <= high
    direction: Direction = ("worse" if low and low > 0 else "better") if clear else "unclear"
    return row._replace(direction=direction, remark="" if clear else WITHIN_NOISE)


def tiles(rows: list[Change], quality_name: str) -> list[Change]:
    """The four changes worth the largest type: quality, then size, time, work, energy, where both sides are known."""
    known = {row.metric: row for row in rows if row.difference != "–"}
    names = dict.fromkeys((quality_name, *TILES))
    return [known[name] for name in names if name in known][:4]


def quality(evidence: Evidence) -> str:
    """Name of the metric that says what the model knows: the one its steps report, else accuracy; "" if none is."""
    of_steps = [name for step in evidence.steps for name in step.after if name not in COSTS]
    measured = [m.name for m in evidence.compressed.measurements]
    candidates = [*of_steps, *(name for name in measured if name in ACCURACY_NAMES)]
    better = [m.name for m in evidence.compressed.measurements if m.better == "higher" and m.unit == "ratio"]
    return next(iter([name for name in candidates if name in measured] or better), "")


def _change(name: str, target: str, before: Measurement | None, after: Measurement | None) -> Change:
    one = after or before
    assert one is not None
    doubt = _doubt(before, after)
    first, second = (side.value if side else None for side in (before, after))
    return Change(
        metric=name,
        label=title(name, target),
        before=_in_words(before),
        after=_in_words(after),
        difference=_difference(one.unit, first, second),
        direction="unclear" if doubt else _direction(one, first, second),
        ratio=second / first if first and second is not None and first > 0 else None,
        shift=_shift(one.unit, first, second),
        interval=_interval(after),
        method=one.method or one.reason,
        source=one.source if one.value is not None else "unknown",
        remark=doubt,
    )


def _in_words(measurement: Measurement | None) -> str:
    if measurement is None:
        return "–"
    if measurement.value is None:
        return "unknown"
    return quantity(measurement.value, measurement.unit)


def _doubt(before: Measurement | None, after: Measurement | None) -> str:
    """Why a difference may be luck; "" if it is not."""
    if before is None or after is None or before.value in (None, after.value) or after.value is None:
        return ""
    if is_exact(before) and is_exact(after):
        return ""
    ends = [(side.low, side.high) for side in (before, after) if side.low is not None and side.high is not None]
    if len(ends) < 2:
        return f"n = {after.n}: no interval"
    (low, high), (other_low, other_high) = ends
    return WITHIN_NOISE if max(low, other_low) <= min(high, other_high) else ""


def _interval(measurement: Measurement | None) -> str:
    if measurement is None or measurement.low is None or measurement.high is None:
        return ""
    low, high = (quantity(end, measurement.unit) for end in (measurement.low, measurement.high))
    return f"{low.partition(' ')[0]} to {high}"


def _difference(unit: str, first: float | None, second: float | None) -> str:
    if first is None or second is None:
        return "–"
    if first == second:
        return "unchanged"
    if unit == "ratio":
        return f"{100 * (second - first):+.2f} points"
    if first <= 0 or second <= 0:
        return quantity(second - first, unit)
    less, more = ("faster", "slower") if unit == "ms" else ("less", "more")
    less, more = ("smaller", "larger") if unit == "bytes" else (less, more)
    if 0.9 < second / first < 1.1:
        return f"{100 * (second / first - 1):+.1f} %"
    return f"{first / second:.2f}x {less}" if second < first else f"{second / first:.2f}x {more}"


def _direction(measurement: Measurement, first: float | None, second: float | None) -> Direction:
    if first is None or second is None:
        return "unknown"
    if first == second:
        return "same"
    return "better" if (second < first) == (measurement.better == "lower") else "worse"


def _shift(unit: str, first: float | None, second: float | None) -> float:
    if first is None or second is None or first <= 0 or second <= 0:
        return 0.0
    raw = (second - first) / 0.10 if unit == "ratio" else math.log(second / first) / math.log(8)
    return max(-1.0, min(1.0, raw))
