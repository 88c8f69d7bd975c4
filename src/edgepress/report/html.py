"""The report as one self-contained HTML file: no network, no script."""

import base64
from collections.abc import Sequence
from functools import cache
from typing import Any

from markupsafe import Markup

from edgepress.gate.metrics import find
from edgepress.gate.verdict import Judgement
from edgepress.gate.wording import SYMBOLS, in_terms_of, interval_in_words, limit_in_words, quantity
from edgepress.measure.record import Evidence
from edgepress.report.changes import changes, quality, tiles
from edgepress.report.names import budget_title, title
from edgepress.report.plots import gauge, pareto
from edgepress.report.view import (
    PARETO_COSTS,
    GroupRow,
    energies,
    first_target,
    group_rows,
    heat_columns,
    heat_rows,
    layer_rows,
    pareto_points,
    refusals,
    step_rows,
)

BANNERS = {
    "pass": "Every budget is kept",
    "fail": "A budget is broken",
    "inconclusive": "The evidence does not decide",
}


def render_html(evidence: Evidence, judgement: Judgement) -> str:
    """Verdict first, then what was gained and lost, then everything behind it."""
    facts = _facts(evidence)
    banner = BANNERS[judgement.outcome] if judgement.verdicts else "Nothing was promised, so nothing was judged"
    sections = _sections(evidence, judgement, facts)
    page = template("report.html.j2")
    return str(page.render(evidence=evidence, judgement=judgement, banner=banner, sections=sections, **facts))


def _facts(evidence: Evidence) -> dict[str, Any]:
    rows = changes(evidence)
    return {
        "changes": rows,
        "tiles": tiles(rows, quality(evidence)),
        "plots": _plots(evidence),
        "steps": step_rows(evidence),
        "layers": layer_rows(evidence),
        "heat": heat_rows(evidence.sensitivity),
        "heat_columns": heat_columns(evidence.sensitivity),
        "groups": _groups(evidence),
        "energies": energies(evidence),
        "pictures": [(picture.title, _as_source(picture.svg)) for picture in evidence.pictures],
        "refusals": refusals(evidence),
        "recipe": _as_yaml(evidence.recipe),
        "style": Markup(stylesheet()),
    }


def _sections(evidence: Evidence, judgement: Judgement, facts: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """(anchor, name, whether it is there) in the order of the page."""
    groups = [(anchor, heading, True) for heading, anchor, _, _ in facts["groups"]]
    return [
        ("budgets", "Budgets", bool(judgement.verdicts)),
        ("changes", "Gained and lost", bool(facts["changes"])),
        ("pareto", "Quality against cost", bool(facts["plots"])),
        ("pictures", "Memory plan", bool(facts["pictures"])),
        ("steps", "Steps", bool(facts["steps"])),
        ("layers", "Layers", bool(facts["layers"])),
        ("sensitivity", "Sensitivity", bool(facts["heat"])),
        *groups,
        ("forgotten", "Forgotten samples", bool(evidence.paired or evidence.forgotten)),
        ("parity", "Parity", bool(evidence.parity)),
        ("energy", "Energy", bool(facts["energies"])),
        ("refusals", "Not done", bool(facts["refusals"])),
        ("environment", "Environment", True),
    ]


def _as_source(svg: str) -> str:
    """A drawing as the source of an image: whatever the evidence holds, nothing in it can run."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _plots(evidence: Evidence) -> list[Markup]:
    metric = quality(evidence)
    measured = find(evidence.compressed, evidence, metric, first_target(evidence, metric)) if metric else None
    higher = measured is None or measured.better == "higher"
    drawn = [(cost, pareto_points(evidence, cost)) for cost in PARETO_COSTS] if metric else []
    return [pareto(points, title(cost), title(metric), higher_is_better=higher) for cost, points in drawn if points]


def _groups(evidence: Evidence) -> list[tuple[str, str, list[GroupRow], float]]:
    """(heading, anchor, rows, half width of the scale in points) for classes and for slices."""
    kinds = (("Accuracy per class", "classes", "class"), ("Accuracy per slice", "slices", "slice"))
    rows = [(heading, anchor, group_rows(evidence.classes, kind)) for heading, anchor, kind in kinds]
    return [(heading, anchor, found, _span(found)) for heading, anchor, found in rows if found]


def _span(rows: Sequence[GroupRow]) -> float:
    return max(1.0, *(max(abs(row.low), abs(row.high)) for row in rows))


def _place(points: float, span: float) -> str:
    """Position on a scale from -span to span, in per cent of its width."""
    return f"{50 + 50 * points / span:.1f}"


def _as_yaml(recipe: object) -> str:
    if not recipe:
        return ""
    import json

    import yaml

    plain = json.loads(json.dumps(recipe, default=str))
    return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100))


@cache
def stylesheet() -> str:
    """The style sheet of all pages."""
    source, _, _ = _environment().loader.get_source(_environment(), "style.css")
    return str(source)


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("edgepress.report")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(
        symbols=SYMBOLS,
        in_terms_of=in_terms_of,
        interval_in_words=interval_in_words,
        limit_in_words=limit_in_words,
        quantity=quantity,
        gauge=gauge,
        title=title,
        budget_title=budget_title,
        place=_place,
    )
    return environment


def template(name: str) -> Any:
    """A page template of this package."""
    return _environment().get_template(name)
