"""`edgepress report`: write a finished run's report anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="A run folder, or an evidence.json.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to write; the run folder by default.")
    ] = None,
    budgets: Annotated[Path | None, typer.Option(metavar="FILE", help="Budgets instead of the recipe's.")] = None,
) -> int:
    """Write report.html, report.md and report.json of a finished run, and print the summary.

    The exit code is the verdict's, as of `edgepress gate`.
    """
    from rich.console import Console

    from edgepress.gate.budget import parse_budgets
    from edgepress.gate.judge import judge
    from edgepress.gate.load import EVIDENCE_FILE, load_budgets, read_evidence
    from edgepress.report.terminal import print_summary
    from edgepress.report.write import write

    evidence = read_evidence(run / EVIDENCE_FILE if run.is_dir() else run)
    recipe = evidence.recipe.get("budgets") or []
    asked = load_budgets(budgets) if budgets else parse_budgets(recipe, "the run's recipe")
    judgement = judge(evidence, asked)
    paths = write(evidence, judgement, out or (run if run.is_dir() else run.parent))
    print_summary(Console(), evidence, judgement)
    typer.echo("\n".join(map(str, paths)))
    return int(judgement.exit_code)
