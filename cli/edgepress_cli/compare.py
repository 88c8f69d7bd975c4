"""`edgepress compare`: runs and model files side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgepress.report.compare import Contender


def compare(
    subjects: Annotated[
        list[Path],
        typer.Argument(help="Run folders or model files; the first is the reference. One run: against its baseline."),
    ],
    rounds: Annotated[int, typer.Option(min=0, help="Time model files in turns, so many rounds.")] = 0,
    target: Annotated[str, typer.Option(help="Where model files are timed.")] = "local-cpu",
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Also write compare.html and compare.md.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the tables as JSON.")] = False,
    layers: Annotated[
        bool, typer.Option("--layers", help="Where FLOAT and QUANTIZED (or a run's two) differ, value by value.")
    ] = False,
    recipe: Annotated[Path | None, typer.Option(help="With --layers: whose data model files are compared on.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="With --layers: how many.")] = 64,
    capability: Annotated[
        str | None,
        typer.Option(help="With --layers: the capability table asked about (repairs, sums that saturate)."),
    ] = None,
    repairs: Annotated[bool, typer.Option("--repairs/--no-repairs", help="With --layers: try what would help.")] = True,
) -> None:
    """Compare models: metrics with intervals, layers, classes, and the Pareto front; or noise, value by value."""
    if layers:
        from edgepress_cli.layers import compare_layers

        compare_layers(
            subjects, recipe=recipe, samples=samples, target=capability, with_repairs=repairs, as_json=as_json
        )
        return
    from edgepress.report.compare_page import compare_html, compare_json, compare_markdown, print_comparison

    contenders = _contenders(subjects) if len(subjects) > 1 else _before_and_after(subjects[0])
    together = rounds > 0 or len(subjects) == 1
    if rounds:
        contenders = _timed(contenders, rounds, target)
    if out:
        from edgepress.report.files import write_text

        write_text(out / "compare.html", compare_html(contenders, together=together))
        write_text(out / "compare.md", compare_markdown(contenders, together=together))
    if as_json:
        typer.echo(compare_json(contenders, together=together), nl=False)
    else:
        from rich.console import Console

        print_comparison(Console(), contenders, together=together)


def _contenders(subjects: list[Path]) -> list[Contender]:
    """Each under its file or folder name, or under its whole path where names repeat."""
    from edgepress.gate.load import load_evidence
    from edgepress.report.compare import Contender

    names = [path.resolve().name for path in subjects]
    labels = [name if names.count(name) == 1 else str(path) for name, path in zip(names, subjects, strict=True)]
    return [Contender(label, load_evidence(path)) for label, path in zip(labels, subjects, strict=True)]


def _before_and_after(run: Path) -> list[Contender]:
    """A run's baseline beside what came out of it."""
    from edgepress.errors import UserError
    from edgepress.gate.load import load_evidence
    from edgepress.report.compare import before_and_after

    evidence = load_evidence(run)
    if not evidence.baseline.measurements:
        raise UserError(
            "edgepress compare: nothing to compare with",
            found=f"only {run}",
            expected="two or more models, or a run that has a baseline",
            fix=f"edgepress compare {run} ANOTHER",
        )
    return before_and_after(evidence)


def _timed(contenders: list[Contender], rounds: int, target: str) -> list[Contender]:
    from edgepress.measure.duel import Duel
    from edgepress.measure.environment import describe
    from edgepress.report.compare import Contender
    from edgepress.targets import load
    from edgepress_cli.timing import with_latency

    files = {contender.label: Path(contender.subject.artifact) for contender in contenders}
    with Duel(files, load(target)) as duel:
        latencies = duel.measure(rounds)
        place = describe(duel.warnings)
    return [Contender(c.label, with_latency(c.evidence, "compressed", latencies[c.label], place)) for c in contenders]
