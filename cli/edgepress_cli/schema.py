"""`edgepress schema`: what editors and scripts need to check our files."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer


def schema(
    what: Annotated[Literal["recipe", "evidence"], typer.Argument(help="Which file's schema.")] = "recipe",
) -> None:
    """Print the JSON Schema of recipes (or of a run's evidence.json), for editors.

    In VS Code: `edgepress schema > edgepress.schema.json`, then begin a recipe with
    `# yaml-language-server: $schema=edgepress.schema.json`.
    """
    typer.echo(json.dumps(_schema_of(what), indent=2))


def _schema_of(what: str) -> dict[str, object]:
    if what == "evidence":
        from edgepress.measure.record import Evidence

        return Evidence.model_json_schema()
    from edgepress.recipe import json_schema

    return json_schema()
