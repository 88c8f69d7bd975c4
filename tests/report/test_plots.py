"""Plots and comparisons: the numbers behind the pictures."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepress.gate.verdict import Judgement
from edgepress.measure.record import Evidence, Measurement
from edgepress.report.compare import Contender, before_and_after, class_rows, fronts, layer_rows, metric_rows
from edgepress.report.compare_page import compare_html, compare_json, compare_markdown
from edgepress.report.plots import Point, front, gauge, pareto
from edgepress.report.view import heat_columns, heat_rows, pareto_points
from edgepress.report.view import layer_rows as layers_of

coordinates = st.tuples(st.text(max_size=8), st.floats(1e-3, 1e9), st.floats(-10, 10))
points = st.lists(coordinates.map(lambda drawn: Point(*drawn)), min_size=2, max_size=12)


@given(points, st.booleans())
def test_the_front_is_what_no_point_beats(drawn: list[Point], higher: bool) -> None:
    sign = 1 if higher else -1

    def beaten(p: Point) -> bool:
        better = [q for q in drawn if q.x <= p.x and sign * q.y >= sign * p.y]
        return any(q.x < p.x or sign * q.y > sign * p.y for q in better)

    found = front(drawn, higher_is_better=higher)
    assert sorted(map(id, found)) == sorted(id(p) for p in drawn if not beaten(p))


@given(points)
def test_any_points_make_a_well_formed_picture(drawn: list[Point]) -> None:
    printable = [p._replace(label=re.sub(r"[^ -~]", "", p.label)) for p in drawn]
    picture = ElementTree.fromstring(str(pareto(printable, "a < b", "c & d")))
    circles = [node for node in picture if node.tag == "circle"]
    assert len(circles) == len(drawn)
    for node in circles:
        assert 0 <= float(node.attrib["cx"]) <= 360 and 0 <= float(node.attrib["cy"]) <= 280


def test_gauges_put_the_value_on_the_right_side_of_the_limit(judgement: Judgement) -> None:
    for verdict in judgement.verdicts:
        if verdict.value is None:
            assert gauge(verdict) == ""
            continue
        picture = ElementTree.fromstring(str(gauge(verdict)))
        value = float(next(n for n in picture if n.tag == "circle").attrib["cx"])
        limit = float(next(n for n in picture if n.tag == "line").attrib["x1"])
        assert (value < limit) == (verdict.value < verdict.limit)


def test_heat_map_orders_columns_as_numbers_and_groups_by_harm() -> None:
    table = {"a": {"10": 0.1, "9": 0.2}, "b": {"8": 0.4, "10": -0.1}, "c": {"w4": 0.05}}
    assert heat_columns(table) == ["8", "9", "10", "w4"]
    rows = heat_rows(table)
    assert [row.group for row in rows] == ["b", "a", "c"]
    assert rows[0].cells == ((0.4, 1.0), None, (-0.1, 0.0), None)


def test_layers_are_matched_by_name(evidence: Evidence) -> None:
    first, *rest = evidence.compressed.layers
    renamed = evidence.compressed.model_copy(update={"layers": (first.model_copy(update={"name": "fused"}), *rest)})
    rows = {row.name: row for row in layers_of(evidence.model_copy(update={"compressed": renamed}))}
    assert rows["fused"].kept == "new" and rows["fused"].before == "–"
    assert rows[first.name].kept == "removed"


def test_layers_that_lost_their_names_are_matched_by_position(evidence: Evidence) -> None:
    nameless = tuple(
        layer.model_copy(update={"name": f"conv_{i}"}) for i, layer in enumerate(evidence.compressed.layers)
    )
    weights = tuple(layer.model_copy(update={"macs": 0, "op": "dequantize"}) for layer in evidence.compressed.layers)
    mixed = [layer for pair in zip(weights, nameless, strict=True) for layer in pair]
    compressed = evidence.compressed.model_copy(update={"layers": tuple(mixed)})
    assert layers_of(evidence.model_copy(update={"compressed": compressed})) == layers_of(evidence)


def test_steps_that_moved_nothing_are_not_drawn(evidence: Evidence) -> None:
    labels = [point.label for point in pareto_points(evidence, "macs")]
    assert labels == ["baseline", "01-prune", "02-recover", "03-quantize", "compressed"]
    idle = evidence.steps[1].model_copy(update={"name": "idle", "before": evidence.steps[1].after})
    assert "idle" not in [
        p.label for p in pareto_points(evidence.model_copy(update={"steps": (*evidence.steps, idle)}), "macs")
    ]


@pytest.fixture(scope="module")
def contenders(evidence: Evidence) -> list[Contender]:
    """The run, the same with a tenth more latency, and a far smaller but worse one."""

    def variant(scale: float, size: float, accuracy: float) -> Evidence:
        changed = {"latency_ms": scale, "size_bytes": size, "accuracy": accuracy}
        measurements = tuple(
            _scaled(m, changed[m.name]) if m.name in changed else m for m in evidence.compressed.measurements
        )
        compressed = evidence.compressed.model_copy(update={"measurements": measurements})
        return evidence.model_copy(update={"compressed": compressed})

    variants = {"a": evidence, "b": variant(1.1, 1.2, 1.0), "c": variant(0.5, 0.5, 0.8)}
    return [Contender(label, one) for label, one in variants.items()]


def _scaled(m: Measurement, factor: float) -> Measurement:
    ends = {name: None if (end := getattr(m, name)) is None else end * factor for name in ("value", "low", "high")}
    return m.model_copy(update={**ends, "samples": tuple(s * factor for s in reversed(m.samples))})


def test_comparison_with_intervals(contenders: list[Contender]) -> None:
    rows = {row.label: row.cells for row in metric_rows(contenders, together=False)}
    size = rows["Size"]
    assert (size[1].versus, size[1].interval, size[1].direction) == ("1.200x", "", "worse")
    assert (size[2].versus, size[2].direction) == ("0.500x", "better")
    latency = rows["Latency (local-cpu)"]
    assert latency[1].direction == "worse" or latency[1].direction == "unclear"
    assert latency[2].direction == "better" and " to " in latency[2].interval
    accuracy = rows["Accuracy"]
    assert (accuracy[1].versus, accuracy[1].direction) == ("+0.00 points", "unclear")
    assert (accuracy[2].versus, accuracy[2].direction) == ("-18.16 points", "worse")
    assert rows["Energy per inference"][1].value == "unknown"


def test_timings_together_are_sharper_than_of_two_runs(contenders: list[Contender]) -> None:
    rows = {
        together: {r.label: r.cells for r in metric_rows(contenders, together=together)} for together in (True, False)
    }
    widths = {}
    for together, table in rows.items():
        low, high = table["Latency (local-cpu)"][1].interval.split(" to ")
        widths[together] = float(high) - float(low)
    assert widths[True] < widths[False] / 3


def test_another_machine_is_shown_and_not_compared(contenders: list[Contender]) -> None:
    place = contenders[1].evidence.environment.model_copy(update={"machine_class": "elsewhere"})
    moved = Contender("b", contenders[1].evidence.model_copy(update={"environment": place}))
    cell = {r.label: r.cells for r in metric_rows([contenders[0], moved], together=False)}["Latency (local-cpu)"][1]
    assert (cell.versus, cell.interval) == ("", "another machine class")
    assert {front.cost for front in fronts([contenders[0], moved])} == {"Size", "Multiply-accumulates"}


def test_a_run_against_its_own_baseline_is_paired(evidence: Evidence) -> None:
    pair = before_and_after(evidence)
    accuracy = {row.label: row.cells for row in metric_rows(pair, together=True)}["Accuracy"]
    low, high = map(float, accuracy[1].interval.split(" to "))
    assert accuracy[1].versus == "-0.70 points"
    assert high - low < 2.5  # 5 points if the two accuracies were independent
    cat = next(row for row in class_rows(pair) if row.label == "class cat")
    assert [cell.value for cell in cat.cells] == ["86.0 %", "73.0 %"]


def test_who_is_on_the_front(contenders: list[Contender]) -> None:
    found = {front.cost: front.best for front in fronts(contenders)}
    assert found["Size"] == ("c", "a")
    assert found["Multiply-accumulates"] == ("a", "b")  # equal on both axes: neither beats the other


def test_every_form_names_every_contender(contenders: list[Contender]) -> None:
    for text in (form(contenders, together=False) for form in (compare_html, compare_markdown, compare_json)):
        assert "class cat" in text and "0.500x" in text
    assert len(layer_rows(contenders)) == len(contenders[0].subject.layers)
    assert len(class_rows(contenders)) == 11
