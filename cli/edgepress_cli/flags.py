"""The flags that verbs share, so that they are called and explained alike everywhere."""

from pathlib import Path
from typing import Annotated

import typer

RecipeFile = Annotated[Path, typer.Argument(help="A recipe (YAML).")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override the recipe, e.g. steps.0.prune.reduce.macs=0.3; repeatable."
    ),
]
Out = Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="The run directory; runs/NAME by default.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print every plan, write nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Override the recipe's seed.")]
Device = Annotated[str, typer.Option("--device", help="Where training runs: cpu, cuda, cuda:1.")]
