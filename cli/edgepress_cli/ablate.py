"""`edgepress run --ablate`: what each step and ingredient of a recipe brought."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from edgepress.measure.record import Ablation
    from edgepress.pipeline.ablation import AblationOutcome
    from edgepress.recipe import Recipe


def ablate_recipe(recipe: Recipe, out: Path, *, seeds: int, dry_run: bool, as_json: bool, device: str) -> int:
    """Run the recipe and its variants, print the table, judge the whole recipe; the verdict is the exit code."""
    if dry_run:
        return _print_variants(recipe, as_json=as_json)
    from edgepress_cli.run import judge_run

    outcome = _execute(recipe, out, seeds=seeds, device=device)
    assert outcome.whole.evidence is not None
    _show(outcome.ablation, out, as_json=as_json)
    return judge_run(recipe, outcome.whole.evidence, out, as_json=False, quiet=as_json)


def _print_variants(recipe: Recipe, *, as_json: bool) -> int:
    from edgepress.recipe.ablation import variants

    found = [{"without": v.name, "reason": v.reason} for v in variants(recipe)]
    lines = [f"without {v['without']}" + (f": no, {v['reason']}" if v["reason"] else "") for v in found]
    typer.echo(json.dumps({"variants": found}, indent=1) if as_json else "\n".join(lines))
    return 0


def _execute(recipe: Recipe, out: Path, *, seeds: int, device: str) -> AblationOutcome:
    from edgepress.pipeline.ablation import ablate
    from edgepress_cli.console import ConsoleReporter
    from edgepress_cli.endings import traceback_kept_in

    reporter = ConsoleReporter()
    try:
        with traceback_kept_in(out):
            return ablate(recipe, out, seeds=seeds, device=device, reporter=reporter)
    finally:
        reporter.close()


def _show(ablation: Ablation, out: Path, *, as_json: bool) -> None:
    from rich.console import Console

    from edgepress.report.ablation import ablation_markdown, print_ablation
    from edgepress.report.files import write_text

    path = write_text(out / "ablation.md", ablation_markdown(ablation))
    if as_json:
        typer.echo(ablation.model_dump_json(indent=1))
    else:
        print_ablation(Console(), ablation)
        typer.echo(f"ablation: {path}")
