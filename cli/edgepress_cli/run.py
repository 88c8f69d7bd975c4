"""`edgepress run`: carry out a recipe, report, judge."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgepress_cli.flags import Device, DryRun, Json, Out, RecipeFile, Seed, Set

if TYPE_CHECKING:
    from edgepress.measure.record import Evidence
    from edgepress.pipeline.run import RunOutcome
    from edgepress.recipe import Recipe


def run(
    recipe: RecipeFile,
    settings: Set = None,
    out: Out = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    seed: Seed = None,
    device: Device = "cpu",
    ablate: Annotated[bool, typer.Option("--ablate", help="Also without each step and ingredient in turn.")] = False,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="With --ablate: repeat everything so often.")] = 1,
) -> int:
    """Carry out a recipe: compress, export, measure, judge.

    Finished steps are kept in the run directory: the same command goes on where an interrupted run stopped.
    Exit code: 0 budgets kept, 1 a budget failed, 2 wrong use, 3 inconclusive, 4 a tool failed, 70 a defect.
    """
    if ablate:
        from edgepress_cli.ablate import ablate_recipe

        loaded = read_recipe(recipe, settings, seed)
        folder = out or Path("runs") / loaded.name
        return ablate_recipe(loaded, folder, seeds=seeds, dry_run=dry_run, as_json=as_json, device=device)
    if seeds > 1:
        from edgepress.errors import UserError

        raise UserError(f"--seeds {seeds} repeats an ablation", found="no --ablate", expected="--ablate",
                        fix="add --ablate, or choose one seed with --seed")  # fmt: skip
    return run_recipe(recipe, settings, out, dry_run=dry_run, as_json=as_json, seed=seed, device=device)


def read_recipe(path: Path, settings: list[str] | None, seed: int | None) -> Recipe:
    """The recipe with what the flags override."""
    from edgepress.recipe import load

    return load(path, [*(settings or ()), *([f"seed={seed}"] if seed is not None else ())])


def run_recipe(
    path: Path,
    settings: list[str] | None,
    out: Path | None,
    *,
    dry_run: bool,
    as_json: bool,
    seed: int | None,
    device: str,
    only: str = "",
) -> int:
    """Carry out a recipe, or only its steps of one kind."""
    from edgepress.recipe import only_steps

    recipe = read_recipe(path, settings, seed)
    folder = out or Path("runs") / (f"{recipe.name}-{only}" if only else recipe.name)
    recipe = only_steps(recipe, only) if only else recipe
    outcome = _execute(recipe, folder, dry_run=dry_run, device=device)
    if outcome.evidence is None:
        _print_plans(outcome.plans, as_json=as_json)
        return 0
    return judge_run(recipe, outcome.evidence, folder, as_json=as_json)


def _execute(recipe: Recipe, out: Path, *, dry_run: bool, device: str) -> RunOutcome:
    from edgepress.pipeline.run import execute
    from edgepress_cli.console import ConsoleReporter
    from edgepress_cli.endings import traceback_kept_in

    reporter = ConsoleReporter()
    try:
        with traceback_kept_in(out):
            return execute(recipe, out, dry_run=dry_run, device=device, reporter=reporter)
    finally:
        reporter.close()


def _print_plans(plans: Sequence[str], *, as_json: bool) -> None:
    typer.echo(json.dumps({"plans": plans}, indent=1) if as_json else "\n".join(plans))


def judge_run(recipe: Recipe, evidence: Evidence, out: Path, *, as_json: bool, quiet: bool = False) -> int:
    """Hold the budgets against the evidence, write the reports, print the verdict; the exit code."""
    from rich.console import Console

    from edgepress.gate.judge import judge
    from edgepress.report.terminal import print_summary
    from edgepress.report.write import render_json, write

    judgement = judge(evidence, recipe.budgets)
    reports = write(evidence, judgement, out)
    if quiet:
        return int(judgement.exit_code)
    if as_json:
        typer.echo(render_json(evidence, judgement), nl=False)
    else:
        print_summary(Console(), evidence, judgement)
        typer.echo(f"report: {reports[0]}")
    return int(judgement.exit_code)
