"""`edgepress sensitivity`: which channel groups the task can do without."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepress_cli.flags import Device, Json, Set


def sensitivity(
    recipe: Annotated[Path, typer.Argument(help="A recipe (YAML): its model, data and task are used.")],
    settings: Set = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Calibration examples to measure on.")] = 256,
    picture: Annotated[Path | None, typer.Option("--picture", help="Draw a heat map: .svg, .png or .pdf.")] = None,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """Rise of the loss when each channel group alone loses 25, 50 and 75 % of its channels, nothing refitted."""
    import json

    from edgepress.pipeline.bench import labelled
    from edgepress.pipeline.run import set_up
    from edgepress.prune.heat_map import draw
    from edgepress.prune.sensitivity import sensitivity as measure
    from edgepress.recipe import load
    from edgepress_cli.console import ConsoleReporter

    reporter = ConsoleReporter()
    try:
        bench = set_up(load(recipe, list(settings or ())), device, reporter)
        table = measure(bench.original, labelled(bench.calibration_batches(samples)), bench.loss)
    finally:
        reporter.close()
    if picture is not None:
        draw(table, picture)
    typer.echo(json.dumps(table.to_json(), indent=1) if as_json else table.to_text())
