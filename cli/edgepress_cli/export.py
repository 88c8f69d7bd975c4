"""`edgepress export`: write a network as an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    model: Annotated[Path, typer.Argument(help="A recipe, a saved program, a .pt2, .onnx or (for C) .tflite file.")],
    out: Annotated[Path, typer.Option("--out", metavar="PATH", help="The .onnx file, or the folder of C sources.")],
    form: Annotated[str, typer.Option("--format", metavar="onnx|c", help="What to write.")] = "onnx",
    core: Annotated[str, typer.Option("--core", help="C: the processor, e.g. cortex-m4, rv32imc, host.")] = "cortex-m4",
    name: Annotated[str, typer.Option("--name", help="C: prefix of all symbols.")] = "model",
    four_bit: Annotated[bool, typer.Option("--four-bit", help="C: two 4-bit weights in a byte.")] = False,
    opset: Annotated[int, typer.Option("--opset", min=13, max=17, help="ONNX: version of the operator set.")] = 17,
) -> int:
    """Write a network as ONNX, or a quantized one as C that needs no heap, no interpreter and no library."""
    from edgepress.errors import UserError

    if form == "onnx":
        size = _write_onnx(model, out, opset)
        typer.echo(f"{out}: {size:,} bytes")
    elif form == "c":
        typer.echo(_write_c(model, out, core, name, four_bit))
    else:
        raise UserError(
            f"cannot export to {form}", found=form, expected="onnx or c", fix="edgepress export --format onnx"
        )
    return 0


def _write_onnx(model: Path, out: Path, opset: int) -> int:
    from edgepress.exporters.onnx import export_onnx
    from edgepress.pipeline.model import open_program

    return export_onnx(open_program(model), out, opset=opset).path.stat().st_size


def _write_c(model: Path, out: Path, core: str, name: str, four_bit: bool) -> str:
    import tempfile

    from edgepress.exporters.c import Options
    from edgepress.exporters.c import export as export_c

    options = Options(target=core, name=name, four_bit=four_bit)
    if model.suffix in (".onnx", ".tflite"):
        export_c(model, out, options=options)
    else:
        with tempfile.TemporaryDirectory(prefix="edgepress-") as folder:
            between = Path(folder) / f"{name}.onnx"
            _write_onnx(model, between, 17)
            export_c(between, out, options=options)
    return f"{out}: C for {core}; its README.md names memory, arithmetic and interface"
