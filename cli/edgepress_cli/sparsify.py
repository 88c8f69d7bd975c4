"""`edgepress sparsify`: the sparsify steps of a recipe, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepress_cli.flags import Device, DryRun, Json, Out, Seed, Set


def sparsify(
    recipe: Annotated[Path, typer.Argument(help="A recipe (YAML).")],
    settings: Set = None,
    out: Out = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    seed: Seed = None,
    device: Device = "cpu",
) -> int:
    """Carry out only the sparsify steps of a recipe; then export, measure and judge."""
    from edgepress_cli.run import run_recipe

    return run_recipe(
        recipe, settings, out, dry_run=dry_run, as_json=as_json, seed=seed, device=device, only="sparsify"
    )
