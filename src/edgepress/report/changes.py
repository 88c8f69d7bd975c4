"""What was gained and lost: each metric of the baseline beside the compressed model's."""

from typing import Literal, NamedTuple

from edgepress.gate.metrics import find
from edgepress.gate.wording import quantity
from edgepress.measure.record import Evidence, Measurement

Direction = Literal["better", "worse", "same", "unknown"]


class Change(NamedTuple):
    """One row of "gained and lost".

    Attributes:
        before, after, difference: in words. direction: whether the change is an improvement.
        ratio: after / before, where both are known and positive.
    """

    metric: str
    label: str
    before: str
    after: str
    difference: str
    direction: Direction
    ratio: float | None
    method: str
    source: str


def changes(evidence: Evidence) -> list[Change]:
    """All metrics of either subject, in the order of the compressed one; params and MACs from the layers if need be."""
    subjects = (evidence.compressed, evidence.baseline)
    keys = dict.fromkeys((m.name, m.target) for subject in subjects for m in subject.measurements)
    keys |= dict.fromkeys((name, "") for name in ("params", "macs") if not any(key[0] == name for key in keys))
    pairs = ((key, [find(subject, evidence, *key) for subject in reversed(subjects)]) for key in keys)
    return [_change(name, target, before, after) for (name, target), (before, after) in pairs if before or after]


def _change(name: str, target: str, before: Measurement | None, after: Measurement | None) -> Change:
    one = after or before
    assert one is not None
    first, second = (side.value if side else None for side in (before, after))
    ratio = second / first if first and second is not None and first > 0 else None
    return Change(
        metric=name,
        label=f"{name} ({target})" if target else name,
        before=_in_words(before),
        after=_in_words(after),
        difference=_difference(one.unit, first, second),
        direction=_direction(one, first, second),
        ratio=ratio,
        method=one.method,
        source=one.source,
    )


def _in_words(measurement: Measurement | None) -> str:
    if measurement is None:
        return "–"
    if measurement.value is None:
        return f"unknown: {measurement.reason}"
    return quantity(measurement.value, measurement.unit)


def _difference(unit: str, first: float | None, second: float | None) -> str:
    if first is None or second is None:
        return "–"
    if unit == "ratio":
        return f"{100 * (second - first):+.2f} points"
    if first <= 0 or second <= 0:
        return quantity(second - first, unit)
    return f"{first / second:.2f}x smaller" if second < first else f"{second / first:.2f}x larger"


def _direction(measurement: Measurement, first: float | None, second: float | None) -> Direction:
    if first is None or second is None:
        return "unknown"
    if first == second:
        return "same"
    return "better" if (second < first) == (measurement.better == "lower") else "worse"
