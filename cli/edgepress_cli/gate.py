"""`edgepress gate`: does a run or an artifact keep its budgets?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgepress.gate.budget import Budget
    from edgepress.gate.judge import Reference
    from edgepress.gate.verdict import Judgement
    from edgepress.measure.record import Evidence


def gate(
    subject: Annotated[Path, typer.Argument(help="A run folder, an evidence.json, or a model file.")],
    budgets: Annotated[Path | None, typer.Option(metavar="FILE", help="Budgets (YAML), or a recipe with some.")] = None,
    baseline: Annotated[Path | None, typer.Option(metavar="FILE", help="A committed baseline.")] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="Compare with this model, timed in turns.")
    ] = None,
    max_size: Annotated[str | None, typer.Option(metavar="SIZE", help="E.g. 500kB, 1.5MiB.")] = None,
    max_params: Annotated[str | None, typer.Option(metavar="COUNT", help="E.g. 73000, 100k.")] = None,
    limit: Annotated[
        list[str] | None, typer.Option(metavar="LIMIT", help="E.g. 'latency_ms<=5', 'latency_ms<=1.05x'; repeatable.")
    ] = None,
    target: Annotated[str, typer.Option(help="Where a model file is timed.")] = "local-cpu",
    retime: Annotated[
        bool, typer.Option("--retime", help="Time a run's models anew, until the verdict is clear.")
    ] = False,
    seconds: Annotated[float, typer.Option(min=0.0, help="Time for measuring until the verdict is clear.")] = 60.0,
    false_alarm_rate: Annotated[
        float, typer.Option(min=1e-6, max=0.5, help="Accepted chance of a false alarm.")
    ] = 0.05,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdicts as JSON.")] = False,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write JUnit XML.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write markdown, for a comment.")] = None,
    github: Annotated[bool | None, typer.Option(help="Annotations and step summary; on by itself in Actions.")] = None,
) -> int:
    """Hold a finished run, or any model file, against budgets.

    Exit code: 0 all kept, 1 one is broken, 3 the evidence does not decide, 2 wrong use, 4 a tool or device is missing.
    """
    from edgepress.gate.load import load_evidence

    evidence = load_evidence(subject, command=f"edgepress gate {subject}")
    asked = _budgets(evidence, budgets, max_size, max_params, limit or [])
    reference = _committed(baseline, against)
    if against:
        evidence = _with_rival(evidence, against)
    if retime or _needs_timing(evidence, asked, subject):
        from edgepress_cli.timing import artifacts_of, judge_with_timing

        files = artifacts_of(evidence, subject, target)
        evidence, judgement = judge_with_timing(evidence, files, asked, reference, target, seconds, false_alarm_rate)
    else:
        from edgepress.gate.judge import judge

        judgement = judge(evidence, asked, reference, false_alarm_rate=false_alarm_rate)
    judgement = _with_improvements(evidence, judgement, reference)
    _write(judgement, evidence, junit, markdown)
    _show(judgement, as_json=as_json, github=os.environ.get("GITHUB_ACTIONS") == "true" if github is None else github)
    return int(judgement.exit_code)


def _budgets(
    evidence: Evidence, file: Path | None, max_size: str | None, max_params: str | None, limits: list[str]
) -> tuple[Budget, ...]:
    """All budgets asked for: of the flags, of the file, or else of the recipe the run was made with."""
    from edgepress.errors import UserError
    from edgepress.gate.budget import Budget, check_consistent, parse_budgets
    from edgepress.gate.shorthand import parse_amount, parse_limit

    found = [parse_limit(text) for text in limits]
    if max_size is not None:
        found.append(Budget(metric="size_bytes", max=parse_amount(max_size, "--max-size")))
    if max_params is not None:
        found.append(Budget(metric="params", max=parse_amount(max_params, "--max-params")))
    if file:
        from edgepress.gate.load import load_budgets

        found += load_budgets(file)
    if not found:
        found += parse_budgets(evidence.recipe.get("budgets") or [], "the run's recipe")
    if not found:
        raise UserError(
            "no budgets: a gate without a promise would pass everything",
            found="no flag, no file, none in the run's recipe",
            expected="--budgets FILE, --max-size, --max-params or --limit",
            fix="edgepress gate MODEL --max-size 500kB",
        )
    check_consistent(tuple(found))
    return tuple(found)


def _committed(path: Path | None, against: Path | None) -> Reference | None:
    if path is None:
        return None
    from edgepress.errors import UserError
    from edgepress.gate.baseline import read_baseline

    if against:
        raise UserError(
            "edgepress gate: two baselines",
            found=f"--baseline {path} and --against {against}",
            expected="one of them",
            fix="gate twice",
        )

    return read_baseline(path).reference()


def _with_rival(evidence: Evidence, against: Path) -> Evidence:
    """The evidence with another model file as its baseline; what was paired with the former one is gone."""
    from edgepress.gate.artifact import describe_artifact

    rival = describe_artifact(against.resolve(), name=against.name)
    return evidence.model_copy(update={"baseline": rival, "paired": None, "classes": (), "parity": ()})


def _needs_timing(evidence: Evidence, budgets: tuple[Budget, ...], subject: Path) -> bool:
    """Whether a latency is asked for that a bare file cannot tell."""
    measured = any(m.name.startswith("latency") for m in evidence.compressed.measurements)
    return subject.is_file() and not measured and any(b.metric.startswith("latency") for b in budgets)


def _with_improvements(evidence: Evidence, judgement: Judgement, reference: Reference | None) -> Judgement:
    if reference is None:
        return judgement
    from edgepress.gate.improvement import improvements

    return judgement.model_copy(update={"improvements": improvements(evidence, reference)})


def _write(judgement: Judgement, evidence: Evidence, junit: Path | None, markdown: Path | None) -> None:
    from edgepress.report.files import write_text

    if junit:
        from edgepress.report.junit import to_junit

        write_text(junit, to_junit(judgement))
    if markdown:
        from edgepress.report.markdown import render_markdown

        write_text(markdown, render_markdown(evidence, judgement))


def _show(judgement: Judgement, *, as_json: bool, github: bool) -> None:
    if github:
        from edgepress.report.github import annotations
        from edgepress.report.markdown import verdict_section

        for line in annotations(judgement):
            typer.echo(line, err=as_json)
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if summary:
            with Path(summary).open("a", encoding="utf-8") as stream:
                stream.write(verdict_section(judgement) + "\n")
    if as_json:
        from edgepress.report.document import to_json

        typer.echo(to_json(judgement), nl=False)
    else:
        from rich.console import Console

        from edgepress.report.terminal import print_judgement

        print_judgement(Console(), judgement)
