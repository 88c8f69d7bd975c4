"""What each part of a recipe brought: as a table on a terminal and in markdown."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgepress.measure.record import Ablation, AblationRow
from edgepress.report.markdown import table

COSTS = {"size_bytes": "size", "macs": "MACs", "params": "parameters", "latency_ms": "latency"}
VERDICTS = {"helps": "green", "hurts": "red", "no clear effect": "dim", "": "dim"}


def print_ablation(console: Console, ablation: Ablation) -> None:
    """The table, with the method below."""
    drawn = Table(*_head(ablation), show_edge=False)
    for row in ablation.rows:
        *cells, judged = _cells(ablation, row)
        drawn.add_row(*map(Text, cells), Text(judged, style=VERDICTS[judged]))
    console.print(Text(_title(ablation)))
    console.print(drawn)
    for line in _footnotes(ablation):
        console.print(Text(line, style="dim"))


def ablation_markdown(ablation: Ablation) -> str:
    """The same for a merge request."""
    lines = [_cells(ablation, row) for row in ablation.rows]
    notes = "\n".join(f"- {line}" for line in _footnotes(ablation))
    return f"### {_title(ablation)}\n\n{table(_head(ablation), lines)}\n\n{notes}\n"


def verdict(row: AblationRow) -> str:
    """Whether the limits exclude zero, in words; "" where nothing was measured."""
    if row.low is None or row.high is None:
        return "no clear effect" if row.gain is not None else ""
    if row.low > 0:
        return "helps"
    return "hurts" if row.high < 0 else "no clear effect"


def _title(ablation: Ablation) -> str:
    whole = ablation.whole.figures
    facts = [f"{ablation.metric} {_metric(ablation, whole[ablation.metric])}"]
    if "size_bytes" in whole:
        facts.append(f"{whole['size_bytes']:,.0f} bytes")
    return f"{ablation.name}, the whole recipe: {', '.join(facts)}"


def _head(ablation: Ablation) -> tuple[str, ...]:
    unit = " (points)" if ablation.bounded else ""
    costs = (f"{label} saved" for label in _costs(ablation).values())
    return ("step", f"{ablation.metric} without it", f"what it brought{unit}", *costs, "")


def _costs(ablation: Ablation) -> dict[str, str]:
    """The costs that the whole recipe has figures of."""
    return {name: label for name, label in COSTS.items() if name in ablation.whole.figures}


def _cells(ablation: Ablation, row: AblationRow) -> tuple[str, ...]:
    if row.gain is None:
        return (row.name, "cannot be left out", row.reason, *("" for _ in _costs(ablation)), "")
    without = _metric(ablation, row.figures[ablation.metric])
    costs = (_saved(ablation.whole, row, name) for name in _costs(ablation))
    return (row.name, without, _gain(ablation, row), *costs, verdict(row))


def _metric(ablation: Ablation, value: float) -> str:
    return f"{100 * value:.2f} %" if ablation.bounded else f"{value:.4g}"


def _gain(ablation: Ablation, row: AblationRow) -> str:
    """With its limits and, where there is one, the p-value."""
    assert row.gain is not None
    scale, form = (100, "+.2f") if ablation.bounded else (1, "+.3g")
    text = f"{scale * row.gain:{form}}"
    if row.low is not None and row.high is not None:
        text += f" [{scale * row.low:{form}}, {scale * row.high:{form}}]"
    return text if row.p_value is None else f"{text} p={row.p_value:.2g}"


def _saved(whole: AblationRow, row: AblationRow, name: str) -> str:
    """How many times as much it costs without the step."""
    if name not in row.figures or not whole.figures[name]:
        return "?"
    ratio = row.figures[name] / whole.figures[name]
    return "-" if abs(ratio - 1) < 0.005 else f"x {ratio:.2f}"


def _footnotes(ablation: Ablation) -> Sequence[str]:
    seeds = ", ".join(map(str, ablation.seeds))
    lines = [
        f"{ablation.samples} samples, seed {seeds}; {ablation.method}; 95 % limits",
        "saved: how many times as much it costs without the step",
    ]
    compared = sum(row.gain is not None for row in ablation.rows)
    if compared > 1:
        lines.append(f"{compared} comparisons: about one in twenty excludes zero by chance")
    unexplained = {row.reason for row in ablation.rows if row.gain is not None and row.reason}
    return [*lines, *sorted(unexplained)]
