"""Several models side by side: values, differences with intervals, layers, classes, and who is on the Pareto front."""

from collections.abc import Sequence
from typing import NamedTuple

from edgepress.gate.finding import Finding, drop, holds, is_exact, outcome_drop, ratio
from edgepress.gate.metrics import ACCURACY_NAMES, find, is_machine_bound
from edgepress.gate.wording import quantity
from edgepress.measure.record import ClassOutcome, Evidence, Measurement, PairedOutcomes, Subject
from edgepress.report.changes import quality
from edgepress.report.names import title
from edgepress.report.plots import Point, front
from edgepress.report.view import PARETO_COSTS, first_target, layers_by_name, renamed_by_position

ERROR_RATE = 0.025


class Contender(NamedTuple):
    """A model that takes part.

    Attributes:
        label: its name in the tables. evidence: of the run that made it; its `compressed` subject is compared.
        paired: right and wrong on the samples of the first contender, where both were evaluated together.
    """

    label: str
    evidence: Evidence
    paired: PairedOutcomes | None = None

    @property
    def subject(self) -> Subject:
        return self.evidence.compressed


class Cell(NamedTuple):
    """One contender's value of one metric.

    Attributes:
        value: in words. versus: the difference to the first contender, in words. interval: of that difference.
        direction: "better" or "worse" beyond the noise, "unclear" within it, "" where nothing is compared.
    """

    value: str
    versus: str = ""
    interval: str = ""
    direction: str = ""


class Row(NamedTuple):
    label: str
    cells: tuple[Cell, ...]


class Front(NamedTuple):
    """Models in a plane of cost and quality.

    Attributes:
        best: labels of those that no other beats on both.
    """

    cost: str
    quality: str
    higher_is_better: bool
    points: tuple[Point, ...]
    best: tuple[str, ...]


def metric_rows(contenders: Sequence[Contender], *, together: bool) -> list[Row]:
    """Every metric that any contender has, compared with the first contender.

    Args:
        together: timings were taken in turns in one process, so that their samples are pairs.
    """
    keys = dict.fromkeys((m.name, m.target) for c in contenders for m in c.subject.measurements)
    rows = []
    for name, target in keys:
        found = [find(c.subject, None, name, target) for c in contenders]
        cells = [_cell(contenders[0], c, (found[0], one), together) for c, one in zip(contenders, found, strict=True)]
        rows.append(Row(title(name, target), (Cell(_words(found[0])), *cells[1:])))
    return rows


def _words(measurement: Measurement | None) -> str:
    return "–" if measurement is None else quantity(measurement.value, measurement.unit)


def _comparable(first: Contender, other: Contender, one: Measurement | None, two: Measurement | None) -> str:
    """Why two measurements cannot be compared; "" if they can."""
    if one is None or two is None or one.value is None or two.value is None:
        return "unknown"
    if one.source != two.source:
        return f"{one.source} and {two.source}"
    classes = {c.evidence.environment.machine_class for c in (first, other)}
    return "another machine class" if is_machine_bound(two) and len(classes) > 1 else ""


def _cell(
    reference: Contender, contender: Contender, sides: tuple[Measurement | None, Measurement | None], together: bool
) -> Cell:
    first, other = sides
    obstacle = _comparable(reference, contender, first, other)
    if obstacle or first is None or other is None or first.value is None:
        return Cell(_words(other), interval="" if obstacle == "unknown" else obstacle)
    relative = other.unit != "ratio" and first.value > 0
    if relative:
        finding = ratio(first, other, ERROR_RATE, paired=together)
    elif contender.paired and other.name in ACCURACY_NAMES:
        finding = outcome_drop(contender.paired, ERROR_RATE)
    else:
        finding = drop(first, other, ERROR_RATE, same_run=together)
    neutral = 1.0 if relative else 0.0
    return Cell(
        _words(other), *_versus(finding, other, relative=relative), _direction(finding, other, neutral, relative)
    )


def _versus(finding: Finding, other: Measurement, *, relative: bool) -> tuple[str, str]:
    value, low, high = finding.interval
    # A drop is positive where the model got worse; readers expect the change of the value itself.
    sign = 1 if relative or other.better == "lower" else -1
    scale, suffix = (1.0, "x") if relative else (100.0, " points") if other.unit == "ratio" else (1.0, "")
    form = "{:.3f}" if relative else "{:+.2f}"
    ends = sorted(sign * scale * end for end in (low, high) if end is not None)
    interval = "" if low == high or len(ends) < 2 else f"{form.format(ends[0])} to {form.format(ends[1])}"
    return form.format(sign * scale * value) + suffix, interval


def _direction(finding: Finding, other: Measurement, neutral: float, relative: bool) -> str:
    below = holds("max", finding.interval, neutral)
    if finding.interval.value == neutral and is_exact(other):
        return "same"
    if below is None:
        return "unclear"
    lower_is_better = not relative or other.better == "lower"
    return "better" if below == lower_is_better else "worse"


def before_and_after(evidence: Evidence) -> list[Contender]:
    """A run's baseline beside what came out of it."""
    before = evidence.model_copy(
        update={"compressed": evidence.baseline, "classes": tuple(map(_of_baseline, evidence.classes))}
    )
    first, second = evidence.baseline.name, evidence.compressed.name
    return [Contender(first, before), Contender(second, evidence, evidence.paired)]


def _of_baseline(group: ClassOutcome) -> ClassOutcome:
    """The outcomes with the baseline in the place of the compressed model."""
    swapped = {"only_first": group.outcomes.only_second, "only_second": group.outcomes.only_first}
    return group.model_copy(update={"outcomes": group.outcomes.model_copy(update=swapped)})


def layer_rows(contenders: Sequence[Contender], most: int = 40) -> list[Row]:
    """MACs (or parameters) per layer, the first contender's costliest layers first."""
    named = [layers_by_name(c.subject.layers) for c in contenders]
    tables = [named[0], *(renamed_by_position(named[0], table) for table in named[1:])]
    cost = "macs" if any(layer.macs for table in tables for layer in table.values()) else "params"
    costs = [{name: int(getattr(layer, cost)) for name, layer in table.items()} for table in tables]
    names = sorted(dict.fromkeys(name for table in costs for name in table), key=lambda n: -costs[0].get(n, 0))
    cells = [tuple(_layer_cell(costs[0].get(n), table.get(n)) for table in costs) for n in names[:most]]
    return [Row(name, row) for name, row in zip(names, cells, strict=False)]


def _layer_cell(first: int | None, other: int | None) -> Cell:
    if other is None:
        return Cell("–")
    return Cell(quantity(other, "count"), f"{other / first:.2f}x" if first and other != first else "")


def class_rows(contenders: Sequence[Contender]) -> list[Row]:
    """Accuracy per class and slice of every contender; "–" where a run did not report it."""
    tables = [{(g.kind, g.label): g for g in c.evidence.classes} for c in contenders]
    keys = dict.fromkeys(key for table in tables for key in table)
    return [
        Row(f"{kind} {label}", tuple(_class_cell(table.get((kind, label))) for table in tables)) for kind, label in keys
    ]


def _class_cell(group: ClassOutcome | None) -> Cell:
    if group is None or not group.outcomes.n:
        return Cell("–")
    outcomes = group.outcomes
    return Cell(f"{100 * (outcomes.both + outcomes.only_second) / outcomes.n:.1f} %", f"n = {outcomes.n}")


def fronts(contenders: Sequence[Contender]) -> list[Front]:
    """For each cost that at least two contenders know beside their quality: the points, and who is on the front.

    Timings of another machine class than the first contender's are left out.
    """
    metric = next((name for c in contenders if (name := quality(c.evidence))), "")
    drawn = [_front(contenders, cost, metric) for cost in PARETO_COSTS] if metric else []
    return [one for one in drawn if one is not None]


def _front(contenders: Sequence[Contender], cost: str, metric: str) -> Front | None:
    points, higher = [], True
    for contender in contenders:
        targets = [first_target(contender.evidence, name) for name in (cost, metric)]
        x, y = (find(contender.subject, None, name, at) for name, at in zip((cost, metric), targets, strict=True))
        if _comparable(contenders[0], contender, x, x) or y is None:
            continue
        if x and x.value and x.value > 0 and y.value is not None:
            points.append(Point(contender.label, x.value, y.value))
            higher = y.better == "higher"
    if len(points) < 2:
        return None
    best = tuple(point.label for point in front(points, higher_is_better=higher))
    return Front(title(cost), title(metric), higher, tuple(points), best)
