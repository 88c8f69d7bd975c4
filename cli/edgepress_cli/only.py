"""`edgepress prune`, `sparsify`, `quantize`: the steps of one kind, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

from edgepress_cli.flags import Device, DryRun, Json, Out, RecipeFile, Seed, Set


def _only(kind: str) -> Callable[..., int]:
    """The verb that carries out steps of this kind."""

    def verb(
        recipe: RecipeFile,
        settings: Set = None,
        out: Out = None,
        dry_run: DryRun = False,
        as_json: Json = False,
        seed: Seed = None,
        device: Device = "cpu",
    ) -> int:
        from edgepress_cli.run import run_recipe

        return run_recipe(recipe, settings, out, dry_run=dry_run, as_json=as_json, seed=seed, device=device, only=kind)

    verb.__doc__ = f"Carry out only the {kind} steps of a recipe; then export, measure and judge."
    verb.__name__ = kind
    return verb


prune, sparsify, quantize = map(_only, ("prune", "sparsify", "quantize"))
