"""`edgepress distill`: the training steps of a recipe, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepress_cli.flags import Device, DryRun, Json, Out, RecipeFile, Seed, Set

NETWORK = "net.py:function, .onnx, .pt2 or a Hugging Face folder"


def distill(
    recipe: RecipeFile,
    student: Annotated[str | None, typer.Option(metavar="NETWORK", help=f"Train this instead: {NETWORK}.")] = None,
    teacher: Annotated[list[str] | None, typer.Option(metavar="NETWORK", help="Learn from this; repeatable.")] = None,
    settings: Set = None,
    out: Out = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    seed: Seed = None,
    device: Device = "cpu",
) -> int:
    """Carry out only the training steps (with or without a teacher) of a recipe; then export, measure and judge."""
    from edgepress_cli.run import run_recipe

    named = _networks(recipe, settings or [], student, teacher or [])
    return run_recipe(recipe, named, out, dry_run=dry_run, as_json=as_json, seed=seed, device=device, only="train")


def _networks(recipe: Path, settings: list[str], student: str | None, teachers: list[str]) -> list[str]:
    """The settings, with the networks that the flags name in the first training step."""
    if student is None and not teachers:
        return settings
    from edgepress.errors import UserError
    from edgepress.recipe import load

    kinds = [item.kind for item in load(recipe, settings).steps]
    if "train" not in kinds:
        raise UserError(f"{recipe} has no train step", found=", ".join(kinds) or "no steps",
                        expected="a train step", fix="add `- train: {}` under steps")  # fmt: skip
    place = f"steps.{kinds.index('train')}.train"
    own = [] if student is None else [f"{place}.student={_network(student)}"]
    others = [f"{place}.distill.teachers=[{', '.join(map(_network, teachers))}]"] if teachers else []
    return [*settings, *own, *others]


def _network(name: str) -> str:
    """A network of the command line, relative to where one stands, as a recipe writes it."""
    file, colon, function = name.rpartition(":")
    if colon and file.endswith(".py"):
        return f"{{factory: '{Path(file).absolute().as_posix()}:{function}'}}"
    if colon:
        return f"{{factory: '{name}'}}"
    door = {".onnx": "onnx", ".pt2": "pt2"}.get(Path(name).suffix, "huggingface")
    return f"{{{door}: '{Path(name).absolute().as_posix()}'}}"
