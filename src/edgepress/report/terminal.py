"""The verdict on a terminal, within 100 columns."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgepress.gate.verdict import Judgement, Verdict
from edgepress.gate.wording import SYMBOLS, in_terms_of, interval_in_words, limit_in_words
from edgepress.measure.record import Evidence
from edgepress.report.changes import changes
from edgepress.report.names import budget_title

WIDTH = 100
STYLES = {"pass": "green", "fail": "bold red", "inconclusive": "yellow"}


def print_summary(console: Console, evidence: Evidence, judgement: Judgement) -> None:
    """Gained and lost, then the verdicts, then the headline: what was asked last is read first."""
    rows = changes(evidence)
    if rows:
        table = _table("metric", "baseline", "compressed", "change")
        for row in rows:
            table.add_row(row.label, row.before, row.after, row.difference)
        _print(console, table)
    for note in evidence.notes:
        _print(console, Text(f"note: {note}", style="dim"))
    print_judgement(console, judgement)


def print_judgement(console: Console, judgement: Judgement) -> None:
    """The verdicts, notes and the headline."""
    if judgement.verdicts:
        table = _table("", "budget", "value", "interval", "limit")
        for verdict in judgement.verdicts:
            table.add_row(*_cells(verdict))
        _print(console, table)
    for verdict in judgement.verdicts:
        if verdict.outcome == "inconclusive":
            _print(console, Text(f"? {verdict.label}: {verdict.reason}{_more(verdict)}", style="yellow"))
    for note in (*judgement.improvements, *judgement.notes):
        _print(console, Text(f"note: {note}"))
    _print(console, Text(judgement.headline, style=STYLES[judgement.outcome]))


def _cells(verdict: Verdict) -> tuple[Text | str, ...]:
    mark = f"{SYMBOLS[verdict.outcome]} {verdict.outcome}" + (" (warn)" if verdict.severity == "warn" else "")
    spread = interval_in_words(verdict) or ("exact" if verdict.exact else "")
    value = in_terms_of(verdict, verdict.value)
    return (
        Text(mark, style=STYLES[verdict.outcome]),
        Text(budget_title(verdict)),
        value,
        spread,
        limit_in_words(verdict),
    )


def _more(verdict: Verdict) -> str:
    return f"; about {verdict.more_samples:,} more samples would decide" if verdict.more_samples else ""


def _table(*columns: str) -> Table:
    right = ("value", "baseline", "compressed")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in columns:
        table.add_column(name, overflow="fold", justify="right" if name in right else "left")
    return table


def _print(console: Console, item: Table | Text) -> None:
    console.print(item, width=min(WIDTH, console.width), soft_wrap=False)
