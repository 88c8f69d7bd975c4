"""From a file to a validated recipe, and back to text with every default filled in."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from edgepress.errors import UserError
from edgepress.recipe import overrides as override
from edgepress.recipe.explain import explain, nearest
from edgepress.recipe.schema import Recipe
from edgepress.recipe.steps import Step
from edgepress.recipe.yaml_text import MAX_BYTES, Document, dump, parse


def load(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read, override and validate a recipe.

    Args:
        path: the recipe. Relative paths inside it, and inside overrides, are relative to its folder.
        overrides: `a.b.0.c=value` each; see `edgepress.recipe.overrides.apply`.

    Raises:
        UserError: anything wrong with the file, an override or a value; names file, line, column and key.
    """
    return parse_recipe(_read(path), name=str(path), base=path.parent, overrides=overrides)


def parse_recipe(text: str, *, name: str, base: Path, overrides: Sequence[str] = ()) -> Recipe:
    """`load` for text that is in no file. `name` is used in messages, `base` is what paths are relative to."""
    document = parse(text, name)
    for setting in overrides:
        override.apply(document, setting)
    return _validate(document, base.resolve())


def resolved_yaml(recipe: Recipe, relative_to: Path | None = None) -> str:
    """The recipe with every default written out; loads back to an equal recipe.

    Args:
        relative_to: the folder that the text will lie in; paths are written relative to it, absolute without it.
    """
    folder = relative_to.resolve() if relative_to else None
    return dump(recipe.model_dump(mode="json", by_alias=True, context={"relative_to": folder}))


def _validate(document: Document, base: Path) -> Recipe:
    # As JSON, because pydantic's strict mode then takes lists for tuples and text for paths, and nothing else.
    try:
        return Recipe.model_validate_json(json.dumps(document.data), context={"base": base})
    except ValidationError as error:
        raise explain(error, Recipe, document) from None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _no_such_file(path) from None
    except OSError as error:
        found = os.strerror(error.errno or 0)
        raise UserError(
            f"{path}: cannot be read", found=found, expected="a recipe (YAML)", fix=f"ls -l {path}"
        ) from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"byte {error.start} is no UTF-8"
        raise UserError(
            f"{path}: not a text file", found=found, expected="YAML in UTF-8", fix="name a recipe"
        ) from None


def _no_such_file(path: Path) -> UserError:
    neighbours = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
    near = nearest(path.name, neighbours)
    fix = f"did you mean {path.parent / near}?" if near else f"edgepress init MODEL --out {path}"
    return UserError(f"{path}: no such file", found="nothing there", expected="a recipe (YAML)", fix=fix)


def only_steps(recipe: Recipe, kind: str) -> Recipe:
    """The recipe with only its steps of one kind, and its exports: C, which is written from integers, becomes ONNX.

    Raises:
        UserError: it has no step of that kind.
    """
    steps = tuple(item for item in recipe.steps if item.kind in (kind, "export"))
    if kind != "quantize":
        steps = tuple(map(_without_c, steps))
    if not any(item.kind == kind for item in steps):
        raise UserError(
            f"the recipe {recipe.name} has no {kind} step",
            found=", ".join(item.kind for item in recipe.steps) or "no steps",
            expected=f"a step of kind {kind}",
            fix=f"add `- {kind}: ...` under steps",
        )
    return recipe.model_copy(update={"steps": steps})


def _without_c(item: Step) -> Step:
    if getattr(item.config, "format", "") != "c":
        return item
    return Step(**{item.kind: item.config.model_copy(update={"format": "onnx"})})
