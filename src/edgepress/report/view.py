"""Evidence arranged for reading: layers matched, classes sorted, steps with what they contributed."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from edgepress.gate.finding import outcome_drop
from edgepress.gate.metrics import find
from edgepress.gate.wording import quantity
from edgepress.measure.record import ClassOutcome, Evidence, LayerCost, Measurement, StepRecord, Subject
from edgepress.report.changes import COSTS, quality
from edgepress.report.names import title
from edgepress.report.plots import Point

MAX_LAYERS = 40
MAX_GROUPS = 40
PARETO_COSTS = ("latency_ms", "size_bytes", "macs")
UNITS = {"macs": "count", "params": "count", "weight_bytes": "bytes"}


class LayerRow(NamedTuple):
    """A layer before and after. Shares are of the largest layer's MACs (parameters where nothing has MACs)."""

    name: str
    op: str
    before: str
    after: str
    share_before: float
    share_after: float
    kept: str


class GroupRow(NamedTuple):
    """A class or slice: accuracies, and the drop in points with its 95 % interval."""

    label: str
    n: int
    before: float
    after: float
    drop: float
    low: float
    high: float


class StepRow(NamedTuple):
    """A step and what it changed, in words."""

    record: StepRecord
    effects: tuple[tuple[str, str], ...]


class Refused(NamedTuple):
    """What a step did not do for one reason.

    Attributes:
        nodes: all that the reason concerns.
    """

    step: str
    nodes: tuple[str, ...]
    found: str
    needed: str


class HeatRow(NamedTuple):
    """A group's metric drops in the order of the columns; `None` where it was not tried. Strength: 0 to 1."""

    group: str
    cells: tuple[tuple[float, float] | None, ...]


def layer_rows(evidence: Evidence) -> list[LayerRow]:
    """Layers by falling cost before compression; at most 40."""
    before, after = layers_by_name(evidence.baseline.layers), layers_by_name(evidence.compressed.layers)
    after = renamed_by_position(before, after)
    cost = "macs" if any(layer.macs for layer in before.values()) else "params"
    names = sorted(dict.fromkeys([*before, *after]), key=lambda name: -_cost(before.get(name), cost))
    top = max((_cost(layer, cost) for layer in (*before.values(), *after.values())), default=0) or 1
    return [_layer_row(name, before.get(name), after.get(name), cost, top) for name in names[:MAX_LAYERS]]


def layers_by_name(layers: Sequence[LayerCost]) -> dict[str, LayerCost]:
    """Layers by name in program order; of several nodes with one name (weights, their user) the one that works."""
    found: dict[str, LayerCost] = {}
    for layer in layers:
        if layer.name not in found or layer.macs > found[layer.name].macs:
            found[layer.name] = layer
    return found


def renamed_by_position(before: Mapping[str, LayerCost], after: dict[str, LayerCost]) -> dict[str, LayerCost]:
    """`after` under the names of `before` where a rewrite lost the names: the n-th working layer is the n-th, provided
    that both have the same sequence of operations."""
    first, second = ([layer for layer in table.values() if layer.macs] for table in (before, after))
    named = sum(layer.name in before for layer in second)
    if 2 * named >= len(second) or [layer.op for layer in first] != [layer.op for layer in second]:
        return after
    return {old.name: new for old, new in zip(first, second, strict=True)}


def _cost(layer: LayerCost | None, cost: str) -> int:
    return int(getattr(layer, cost)) if layer else 0


def _layer_row(name: str, before: LayerCost | None, after: LayerCost | None, cost: str, top: int) -> LayerRow:
    one = before or after
    assert one is not None
    first, second = _cost(before, cost), _cost(after, cost)
    kept = "removed" if after is None else "new" if before is None else f"{100 * second / first:.0f} %" if first else ""
    words = [quantity(_cost(layer, cost), "count") if layer else "–" for layer in (before, after)]
    return LayerRow(name, one.op.removeprefix("aten."), words[0], words[1], first / top, second / top, kept)


def group_rows(groups: Sequence[ClassOutcome], kind: str) -> list[GroupRow]:
    """Classes (or slices) by falling drop; at most 40."""
    rows = [_group_row(group) for group in groups if group.kind == kind and group.outcomes.n]
    return sorted(rows, key=lambda row: -row.drop)[:MAX_GROUPS]


def _group_row(group: ClassOutcome) -> GroupRow:
    o = group.outcomes
    drop, low, high = outcome_drop(o, 0.025).interval
    points = [100 * float(x or 0) for x in (drop, low, high)]
    return GroupRow(
        group.label, o.n, 100 * (o.both + o.only_first) / o.n, 100 * (o.both + o.only_second) / o.n, *points
    )


def step_rows(evidence: Evidence) -> list[StepRow]:
    """Each step with the metrics it moved."""
    return [StepRow(step, tuple(_effects(step))) for step in evidence.steps]


def _effects(step: StepRecord) -> list[tuple[str, str]]:
    shared = [name for name in step.after if name in step.before and step.after[name] != step.before[name]]
    return [(title(name), _effect(name, step.before[name], step.after[name])) for name in shared]


def _effect(name: str, before: float, after: float) -> str:
    if name in COSTS:
        unit = UNITS[name]
        share = f" ({100 * (after / before - 1):+.1f} %)" if before else ""
        return f"{quantity(before, unit)} → {quantity(after, unit)}{share}"
    if min(before, after) >= 0 and max(before, after) <= 1:
        return f"{100 * before:.2f} → {100 * after:.2f} % ({100 * (after - before):+.2f} points)"
    return f"{before:.4g} → {after:.4g}"


def heat_columns(sensitivity: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Ratios or bit widths that were tried, in their natural order."""
    names = dict.fromkeys(name for row in sensitivity.values() for name in row)
    return sorted(names, key=lambda name: (not _is_number(name), float(name) if _is_number(name) else 0.0, name))


def heat_rows(sensitivity: Mapping[str, Mapping[str, float]]) -> list[HeatRow]:
    """Groups by falling largest drop."""
    columns = heat_columns(sensitivity)
    top = max((abs(v) for row in sensitivity.values() for v in row.values()), default=0.0) or 1.0
    ordered = sorted(sensitivity.items(), key=lambda item: -max(item[1].values(), default=0.0))
    return [
        HeatRow(group, tuple((row[c], max(0.0, row[c]) / top) if c in row else None for c in columns))
        for group, row in ordered
    ]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def refusals(evidence: Evidence) -> list[Refused]:
    """A row per step and reason, in order."""
    nodes: dict[tuple[str, str, str], list[str]] = {}
    for one in (refusal for step in evidence.steps for refusal in step.refusals):
        nodes.setdefault((one.step, one.found, one.needed), []).append(one.node)
    return [Refused(step, tuple(names), found, needed) for (step, found, needed), names in nodes.items()]


def energies(evidence: Evidence) -> list[tuple[str, Measurement]]:
    """(subject, measurement) of every energy; what is unknown for the same reason is said once."""
    rows: list[tuple[str, Measurement]] = []
    for subject in (evidence.baseline, evidence.compressed):
        for m in subject.measurements:
            if m.unit not in ("mJ", "J", "uJ") and "energy" not in m.name:
                continue
            if m.value is not None or not any(m.reason == other.reason for _, other in rows):
                rows.append((subject.name if m.value is not None else "both", m))
    return rows


def pareto_points(evidence: Evidence, cost: str) -> list[Point]:
    """Baseline, every step that reports both axes and moved on either, and the compressed model."""
    metric = quality(evidence)
    steps = [
        Point(step.name, step.after[cost], step.after[metric], "step")
        for step in evidence.steps
        if cost in step.after and metric in step.after
    ]
    first = _measured_point(evidence, evidence.baseline, "baseline", (cost, metric))
    last = _measured_point(evidence, evidence.compressed, "compressed", (cost, metric))
    points = [p for p in (first, last, *steps) if p is not None and p.x > 0]
    places = [(f"{p.x:.3g}", f"{p.y:.4g}") for p in points]
    distinct = [p for i, p in enumerate(points) if places[i] not in places[:i]]
    order = {"baseline": 0, "step": 1, "compressed": 2}
    return sorted(distinct, key=lambda p: order[p.kind]) if len(distinct) > 1 else []


def _measured_point(evidence: Evidence, subject: Subject, kind: str, names: tuple[str, str]) -> Point | None:
    x, y = (find(subject, evidence, name, first_target(evidence, name)) for name in names)
    if x is None or y is None or x.value is None or y.value is None:
        return None
    return Point(kind, x.value, y.value, kind, _ends(x), _ends(y))


def _ends(measurement: Measurement) -> tuple[float, float] | None:
    if measurement.low is None or measurement.high is None:
        return None
    return measurement.low, measurement.high


def first_target(evidence: Evidence, metric: str) -> str:
    """The first target the metric was measured on."""
    return next((m.target for m in evidence.compressed.measurements if m.name == metric), "")
