"""What `edgepress measure` found, as a table: a row per metric, a column per artifact."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from edgepress.gate.wording import quantity
from edgepress.measure.record import Measurement
from edgepress.report.names import title

Column = tuple[str, Sequence[Measurement]]
"""Head of the column, and what was measured."""


def print_survey(console: Console, columns: Sequence[Column]) -> None:
    """The table, and below it what could not be measured: each reason once."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for head, _ in columns:
        table.add_column(head, justify="right", overflow="fold")
    found = [{m.name: m for m in measurements} for _, measurements in columns]
    for name in dict.fromkeys(name for column in found for name in column):
        cells = [column.get(name) for column in found]
        if any(cell is not None and cell.value is not None for cell in cells):
            table.add_row(title(name), *map(_cell, cells))
    console.print(table)
    for line in unknown(m for column in found for m in column.values()):
        console.print(line)


def unknown(measurements: Iterable[Measurement]) -> list[str]:
    """One line per reason: which metrics have no value for it."""
    names: dict[str, list[str]] = {}
    for one in measurements:
        if one.value is None:
            names.setdefault(one.reason, []).append(title(one.name))
    return [f"not measured: {'; '.join(dict.fromkeys(metrics))}: {reason}" for reason, metrics in names.items()]


def _cell(one: Measurement | None) -> str:
    """`12.76 ms (12.5 to 13.1, n = 200)`; the interval is that of 95 %."""
    if one is None or one.value is None:
        return "–"
    text = quantity(one.value, one.unit)
    if one.low is None or one.high is None:
        return text
    low, high = (quantity(end, one.unit).partition(" ")[0] for end in (one.low, one.high))
    return f"{text} ({low} to {high}, n = {one.n})"
