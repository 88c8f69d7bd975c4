"""`edgepress measure`: size, latency, memory and cold start of artifacts on a target."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np

    from edgepress.measure.record import Parity
    from edgepress.measure.survey import Survey
    from edgepress.targets import Target


def measure(
    artifacts: Annotated[list[Path], typer.Argument(help="Files to measure; several are timed in turns.")],
    target: Annotated[
        list[str], typer.Option(help="A ready-made target or a target file; several: each runs the files it takes.")
    ] = ["local-cpu"],  # noqa: B006
    inputs: Annotated[Path | None, typer.Option(help="An .npz of one batch; noise that fits if left out.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Batch size of made-up inputs.")] = 1,
    runs: Annotated[int, typer.Option(min=1, help="Timed runs per artifact.")] = 200,
    cold_starts: Annotated[int, typer.Option(min=0, help="Fresh processes per artifact, for memory and load.")] = 5,
    callers: Annotated[int, typer.Option(min=0, help="Measure throughput with so many callers at once.")] = 0,
    energy: Annotated[bool, typer.Option(help="Use the target's energy meters.")] = True,
    parity: Annotated[bool, typer.Option("--parity", help="Hold all answers against the ONNX reference.")] = False,
    seed: Annotated[int, typer.Option(help="Of made-up inputs and of the order of runs.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Size, latency, memory and cold start of artifacts on targets, and whether they all answer alike."""
    from edgepress.measure.survey import survey
    from edgepress.targets import load

    feed = None if inputs is None else _read_inputs(inputs)
    settings = {"runs": runs, "energy": energy, "cold_starts": cold_starts, "callers": callers}
    places = [(place, _fitting(_named(artifacts), place)) for place in map(load, target)]
    results = [
        survey(files, place, inputs=feed, batch=batch, seed=seed, **settings)  # type: ignore[arg-type]
        for place, files in places
    ]
    hops, why = _agreement(places, feed, batch, seed) if parity else ((), "")
    if as_json:
        _print_json(results, hops)
    else:
        _print_table(results)
        _print_parity(hops, why)


def _fitting(files: dict[str, Path], place: Target) -> dict[str, Path]:
    """The files that this target's runtime takes; all of them if it takes none, so that it says what it wants."""
    from edgepress.targets.runtimes import RUNTIMES

    endings = RUNTIMES[place.runtime][1] if place.runtime in RUNTIMES else ()
    return {name: path for name, path in files.items() if path.suffix in endings} or files


def _agreement(
    places: list[tuple[Target, dict[str, Path]]], feed: dict[str, np.ndarray] | None, batch: int, seed: int
) -> tuple[tuple[Parity, ...], str]:
    from contextlib import closing

    from edgepress.measure.agreement import agreement
    from edgepress.targets.runtimes import made_up_inputs, open_session

    rows = [(name, path, place) for place, files in places for name, path in files.items()]
    if feed is None:
        with closing(open_session(rows[0][1], rows[0][2])) as session:
            feed = made_up_inputs(session.input_specs, batch=batch, seed=seed)
    return agreement(rows, feed)


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


def _print_json(results: list[Survey], hops: tuple[Parity, ...]) -> None:
    import json

    artifacts: dict[str, list[dict[str, object]]] = {}
    for name, measurements in (item for result in results for item in result.items()):
        artifacts.setdefault(name, []).extend(m.model_dump(mode="json") for m in measurements)
    told: dict[str, object] = {"artifacts": artifacts, "environment": results[0].environment.model_dump(mode="json")}
    if len(results) > 1:
        told["environments"] = [result.environment.model_dump(mode="json") for result in results]
    if hops:
        told["parity"] = [hop.model_dump(mode="json") for hop in hops]
    typer.echo(json.dumps(told, indent=1))


def _print_parity(hops: tuple[Parity, ...], why: str) -> None:
    for hop in hops:
        flips = "" if hop.flip_rate is None else f", {hop.flip_rate:.2%} of {hop.n} predictions differ"
        layer = f", first at {hop.first_divergent_layer}" if hop.first_divergent_layer else ""
        typer.echo(
            f"{hop.first} / {hop.second}: largest error {hop.max_abs:.3g}, mean {hop.mean_abs:.3g}{flips}{layer}"
        )
    if why:
        typer.echo(f"no ONNX reference: {why}")


def _print_table(results: list[Survey]) -> None:
    from rich.console import Console

    from edgepress.report.survey import print_survey

    console = Console(width=None if Console().is_terminal else 110, markup=False, highlight=False)
    columns = [
        (f"{name} on {found[0].target}" if len(results) > 1 and found else name, found)
        for result in results
        for name, found in result.items()
    ]
    print_survey(console, columns)
    for environment in {result.environment.machine_class: result.environment for result in results}.values():
        typer.echo(f"\n{environment.cpu}, {environment.cores} cores ({environment.machine_class})")
    for warning in dict.fromkeys(text for result in results for text in result.environment.warnings):
        typer.echo(f"warning: {warning}")
