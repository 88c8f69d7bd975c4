"""`edgepress baseline`: the committed values that relative budgets are held against."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from edgepress.gate.baseline import Baseline


def baseline(
    action: Annotated[Literal["update", "show"], typer.Argument(help="Accept new values, or show the accepted ones.")],
    subject: Annotated[Path | None, typer.Argument(help="With update: a run folder or a model file.")] = None,
    file: Annotated[Path, typer.Option(metavar="FILE", help="The baseline file.")] = Path("edgepress-baseline.yaml"),
    reason: Annotated[str, typer.Option(help="With update: why the new values are right.")] = "",
) -> None:
    """Accept a run's values as the new baseline (a small text file to commit), or show the accepted ones."""
    from edgepress.gate.baseline import read_baseline

    if action == "update":
        _update(subject, file, reason)
    typer.echo(_summary(read_baseline(file)))


def _update(subject: Path | None, file: Path, reason: str) -> None:
    from datetime import UTC, datetime

    from edgepress.errors import UserError
    from edgepress.gate.baseline import baseline_of, write_baseline
    from edgepress.gate.load import load_evidence

    if subject is None:
        raise UserError(
            "edgepress baseline update: nothing to accept",
            found="no run",
            expected="a run folder or a model file",
            fix="edgepress baseline update RUN --reason '...'",
        )
    now = datetime.now(UTC).isoformat(timespec="seconds")
    write_baseline(baseline_of(load_evidence(subject), reason=reason, updated=now), file)


def _summary(accepted: Baseline) -> str:
    from edgepress.gate.wording import quantity

    place = accepted.environment.machine_class
    lines = [f"{accepted.subject}, accepted {accepted.updated[:10]}: {accepted.reason} (machine class {place})"]
    for metric in accepted.metrics:
        name = f"{metric.name} ({metric.target})" if metric.target else metric.name
        lines.append(f"  {name:32} {quantity(metric.value, metric.unit)}")
    return "\n".join(lines)
