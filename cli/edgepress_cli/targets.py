"""`edgepress targets`: where artifacts can run, and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgepress.targets import Target


def targets(
    name: Annotated[str, typer.Argument(help="A ready-made target or a file; all ready-made ones if left out.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Where artifacts can run, whether this machine has what that takes, and how to get what it lacks."""
    from edgepress.targets import load, ready_made

    chosen = [load(name)] if name else [load(known) for known in ready_made()]
    if as_json:
        _print_json(chosen)
    elif name:
        _print_one(chosen[0])
    else:
        _print_table(chosen)


def _print_json(chosen: list[Target]) -> None:
    import json

    from edgepress.targets.readiness import lacks

    rows = [{**t.model_dump(mode="json"), "lacks": [lack._asdict() for lack in lacks(t)]} for t in chosen]
    typer.echo(json.dumps(rows, indent=1))


def _print_table(chosen: list[Target]) -> None:
    from rich.console import Console
    from rich.table import Table

    from edgepress.targets.readiness import lacks

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("target", "kind", "runtime", "device", "threads", "missing here", "fix"):
        table.add_column(column, overflow="fold")
    for target in chosen:
        lack = lacks(target)
        missing, fix = "; ".join(one.what for one in lack) or "-", "; ".join(one.fix for one in lack)
        table.add_row(target.name, target.kind, target.runtime, target.device, str(target.threads), missing, fix)
    console = Console(width=None if Console().is_terminal else 140, markup=False)
    console.print(table)


def _print_one(target: Target) -> None:
    from edgepress.targets.readiness import lacks

    typer.echo(f"{target.name}: {target.description}")
    for field, value in target.model_dump(mode="json", exclude={"name", "description"}, exclude_none=True).items():
        if value not in ({}, []):
            typer.echo(f"  {field}: {value}")
    for lack in lacks(target):
        typer.echo(f"  missing: {lack.what}\n    fix: {lack.fix}")
    if target.kind == "local" and target.meters:
        _print_meter(target)


def _print_meter(target: Target) -> None:
    """The first of the target's energy meters that answers here, or why none does."""
    from edgepress.targets.meters import NoMeter, open_meter

    try:
        meter = open_meter(target)
    except NoMeter as refusal:
        typer.echo(f"  energy meter: none: {refusal.found}" + (f"\n    fix: {refusal.fix}" if refusal.fix else ""))
    else:
        typer.echo(f"  energy meter: {meter.name}: {meter.covers}")
        meter.close()
