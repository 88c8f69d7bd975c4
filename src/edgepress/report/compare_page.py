"""The comparison as a page, as markdown, as JSON, and on a terminal."""

import json
from collections.abc import Sequence

from markupsafe import Markup
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgepress.report.compare import Cell, Contender, Front, Row, class_rows, fronts, layer_rows, metric_rows
from edgepress.report.html import stylesheet, template
from edgepress.report.markdown import table
from edgepress.report.plots import pareto

STYLES = {"better": "green", "worse": "red", "unclear": "dim", "same": "", "": ""}


def compare_html(contenders: Sequence[Contender], *, together: bool) -> str:
    """One self-contained page."""
    drawn = fronts(contenders)
    plots = [pareto(f.points, f.cost, f.quality, higher_is_better=f.higher_is_better) for f in drawn]
    tables = [("Metrics", metric_rows(contenders, together=together)), ("Cost per layer", layer_rows(contenders))]
    tables.append(("Accuracy per class", class_rows(contenders)))
    page = template("compare.html.j2")
    labels = [contender.label for contender in contenders]
    style = Markup(stylesheet())
    return str(page.render(labels=labels, tables=tables, fronts=drawn, plots=plots, contenders=contenders, style=style))


def compare_markdown(contenders: Sequence[Contender], *, together: bool) -> str:
    """Tables for a merge request."""
    head = ("", *(contender.label for contender in contenders))
    parts = []
    for heading, rows in (("Metrics", metric_rows(contenders, together=together)), ("Classes", class_rows(contenders))):
        if rows:
            lines = [(row.label, *(_flat(cell) for cell in row.cells)) for row in rows]
            parts.append(f"### {heading}\n\n{table(head, lines)}")
    parts += [_front_in_words(front) for front in fronts(contenders)]
    return "\n\n".join(parts) + "\n"


def compare_json(contenders: Sequence[Contender], *, together: bool) -> str:
    """The same tables as data."""
    facts = {
        "contenders": [contender.label for contender in contenders],
        "metrics": [_plain(row) for row in metric_rows(contenders, together=together)],
        "layers": [_plain(row) for row in layer_rows(contenders)],
        "classes": [_plain(row) for row in class_rows(contenders)],
        "fronts": [{"cost": f.cost, "quality": f.quality, "best": f.best} for f in fronts(contenders)],
    }
    return json.dumps(facts, indent=1, ensure_ascii=False) + "\n"


def print_comparison(console: Console, contenders: Sequence[Contender], *, together: bool) -> None:
    """Metrics, classes and fronts; layers are left to the page."""
    for rows in (metric_rows(contenders, together=together), class_rows(contenders)):
        if rows:
            console.print(_rich_table(contenders, rows), width=min(100, console.width))
    for front in fronts(contenders):
        console.print(Text(_front_in_words(front)), width=min(100, console.width))


def _rich_table(contenders: Sequence[Contender], rows: Sequence[Row]) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="dim")
    shown.add_column("", overflow="fold")
    for contender in contenders:
        shown.add_column(Text(contender.label), justify="right", overflow="fold")
    for row in rows:
        shown.add_row(Text(row.label), *(Text(_flat(cell), style=STYLES[cell.direction]) for cell in row.cells))
    return shown


def _flat(cell: Cell) -> str:
    details = ", ".join(text for text in (cell.versus, cell.interval) if text)
    return f"{cell.value} ({details})" if details else cell.value


def _plain(row: Row) -> dict[str, object]:
    return {"label": row.label, "cells": [cell._asdict() for cell in row.cells]}


def _front_in_words(front: Front) -> str:
    beaten = [point.label for point in front.points if point.label not in front.best]
    rest = f"; beaten: {', '.join(beaten)}" if beaten else ""
    return f"Pareto front of {front.quality.lower()} over {front.cost.lower()}: {', '.join(front.best)}{rest}"
