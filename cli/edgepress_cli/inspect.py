"""`edgepress inspect`: what a network is made of, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from edgepress.analysis.costs import NodeCost
    from edgepress.ir import Program


def inspect(
    model: Annotated[Path, typer.Argument(help="A recipe, a saved program, a .pt2 or an .onnx file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    text: Annotated[bool, typer.Option("--text", help="Print the program itself, one line per operation.")] = False,
) -> None:
    """Parameters, multiply-accumulates and activation bytes of every layer."""
    from edgepress.analysis.costs import node_costs
    from edgepress.ir import to_text
    from edgepress.pipeline.model import open_program

    program = open_program(model)
    if text:
        typer.echo(to_text(program), nl=False)
    elif as_json:
        import json

        typer.echo(json.dumps(_plain(program, node_costs(program)), indent=1))
    else:
        _print_table(program, node_costs(program))


def _plain(program: Program, costs: list[NodeCost]) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "digest": program.digest(),
        "inputs": list(program.input_names),
        "outputs": list(program.output_names),
        "dynamic_batch": program.dynamic_batch(),
        "params": program.parameter_count(),
        "macs": sum(c.macs for c in costs),
        "history": list(program.history),
        "layers": [asdict(cost) for cost in costs],
    }


def _print_table(program: Program, costs: list[NodeCost]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("layer", overflow="fold", max_width=36)
    table.add_column("operation", overflow="fold", max_width=20)
    table.add_column("output", no_wrap=True)
    for name in ("params", "MACs", "activation B"):
        table.add_column(name, justify="right", no_wrap=True)
    for cost in costs:
        shape = "x".join(map(str, cost.shape))
        counts = (f"{n:,}" if n else "-" for n in (cost.params, cost.macs, cost.activation_bytes))
        table.add_row(cost.layer, cost.op.removeprefix("aten."), shape, *counts)
    console = Console(width=None if Console().is_terminal else 110)
    console.print(table)
    console.print(_totals(program, costs), highlight=False)


def _totals(program: Program, costs: list[NodeCost]) -> str:
    from edgepress.analysis.costs import parameter_bytes

    largest = max((c.activation_bytes for c in costs), default=0)
    batch = "free" if program.dynamic_batch() else "fixed"
    return (
        f"\n{len(costs)} operations, {program.parameter_count():,} parameters ({parameter_bytes(program):,} bytes), "
        f"{sum(c.macs for c in costs):,} MACs, largest activation {largest:,} bytes, batch {batch}"
    )
