"""`edgepress measure`: size, latency, memory and cold start of artifacts on a target."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np

    from edgepress.measure.survey import Survey


def measure(
    artifacts: Annotated[list[Path], typer.Argument(help="Files to measure; several are timed in turns.")],
    target: Annotated[str, typer.Option(help="A ready-made target or a target file.")] = "local-cpu",
    inputs: Annotated[Path | None, typer.Option(help="An .npz of one batch; noise that fits if left out.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Batch size of made-up inputs.")] = 1,
    runs: Annotated[int, typer.Option(min=1, help="Timed runs per artifact.")] = 200,
    cold_starts: Annotated[int, typer.Option(min=0, help="Fresh processes per artifact, for memory and load.")] = 5,
    callers: Annotated[int, typer.Option(min=0, help="Measure throughput with so many callers at once.")] = 0,
    energy: Annotated[bool, typer.Option(help="Use the target's energy meters.")] = True,
    seed: Annotated[int, typer.Option(help="Of made-up inputs and of the order of runs.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Size, latency, memory and cold start of artifacts on a target."""
    from edgepress.measure.survey import survey
    from edgepress.targets import load

    result = survey(
        _named(artifacts),
        load(target),
        inputs=None if inputs is None else _read_inputs(inputs),
        batch=batch,
        runs=runs,
        energy=energy,
        cold_starts=cold_starts,
        callers=callers,
        seed=seed,
    )
    if as_json:
        _print_json(result)
    else:
        _print_table(result)


def _named(artifacts: list[Path]) -> dict[str, Path]:
    """Each artifact under its file name, or under its whole path where names repeat."""
    names = [path.name for path in artifacts]
    return {(path.name if names.count(path.name) == 1 else str(path)): path for path in artifacts}


def _read_inputs(path: Path) -> dict[str, np.ndarray]:
    import zipfile

    import numpy as np

    from edgepress.errors import UserError

    try:
        return dict(np.load(path, allow_pickle=False))
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} cannot be read as inputs",
            found=str(error),
            expected="an .npz with one array per input",
            fix="numpy.savez(path, input_name=array)",
        ) from None


def _print_json(result: Survey) -> None:
    import json

    artifacts = {name: [m.model_dump(mode="json") for m in measurements] for name, measurements in result.items()}
    typer.echo(
        json.dumps({"artifacts": artifacts, "environment": result.environment.model_dump(mode="json")}, indent=1)
    )


def _print_table(result: Survey) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("artifact", "metric", "value", "95 % interval", "n"):
        table.add_column(column, overflow="fold", justify="left" if column in ("artifact", "metric") else "right")
    for name, measurements in result.items():
        for m in measurements:
            value = f"{m.value:,.6g}" if m.value is not None else f"unknown: {m.reason}"
            interval = f"{m.low:.4g} .. {m.high:.4g}" if m.low is not None and m.high is not None else ""
            table.add_row(name, m.name, value, interval, str(m.n))
    console = Console(width=None if Console().is_terminal else 110, markup=False)
    console.print(table)
    environment = result.environment
    typer.echo(f"\n{environment.cpu}, {environment.cores} cores ({environment.machine_class})")
    for warning in environment.warnings:
        typer.echo(f"warning: {warning}")
