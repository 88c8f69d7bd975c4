"""`edgepress init`: a recipe to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepress_cli.flags import Json


def init(
    model: Annotated[str, typer.Argument(help="FILE.py:FUNCTION, a .pt2 or .onnx file, or a Hugging Face id.")],
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="NAME=SIZES",
            help="image=3x32x32 or ids=128:int64, without batch; else as in --train.",
        ),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights for what the function builds.")] = None,
    train: Annotated[str, typer.Option(help="Training data: digits, .npz, .csv, .tsv, .txt or a folder.")] = "",
    evaluate: Annotated[str, typer.Option(help="Evaluation data, likewise.")] = "",
    task: Annotated[str, typer.Option(help="What the network does.")] = "classification",
    out: Annotated[Path, typer.Option(help="The recipe to write; never overwritten.")] = Path("recipe.yaml"),
    as_json: Json = False,
) -> None:
    """Write a recipe for a model, to start from.

    Paths are relative to the working folder; the recipe holds them relative to itself.
    """
    from edgepress.errors import UserError
    from edgepress.recipe.starter import Start, starter_text

    if out.exists():
        fix = f"--out {out.with_name('another.yaml')}, or remove it"
        raise UserError(f"{out} is there already", found="a file", expected="a new name", fix=fix)
    if not inputs and train and ":" in model:
        inputs = _inputs_from(train, out.parent)
    text = starter_text(Start(model, inputs or (), weights, train, evaluate, task), out.parent)
    _write(out, text)
    typer.echo(f'{{"recipe": {_json(out)}}}' if as_json else f"wrote {out}; next: edgepress run {out} --dry-run")


def _inputs_from(train: str, folder: Path) -> list[str]:
    """A factory does not say what its network reads; the training data do."""
    from edgepress.pipeline.starting import inputs_of
    from edgepress.recipe.starter import source_text

    return inputs_of(source_text("train", train, folder), folder)


def _write(out: Path, text: str) -> None:
    from edgepress.pipeline.atomic import disk_errors, not_writable, write_bytes

    try:
        with disk_errors(out):
            out.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(out, text.encode())
    except OSError as error:
        raise not_writable(out, error) from error


def _json(path: Path) -> str:
    import json

    return json.dumps(str(path))
