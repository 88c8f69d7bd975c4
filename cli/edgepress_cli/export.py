"""`edgepress export`: write a network as an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgepress.exporters.onnx import OnnxOptions

FORMATS = ("onnx", "ort", "openvino", "tensorrt", "pt2", "aot", "c")


def export(
    model: Annotated[Path, typer.Argument(help="A recipe, a saved program, a .pt2, .onnx or (for C) .tflite file.")],
    out: Annotated[Path, typer.Option("--out", metavar="PATH", help="The file, or the folder of C sources.")],
    form: Annotated[str, typer.Option("--format", metavar="|".join(FORMATS), help="What to write.")] = "onnx",
    precision: Annotated[
        str, typer.Option("--precision", help="float32, float16 or bfloat16, for what is not quantized.")
    ] = "float32",
    keep_op: Annotated[list[str], typer.Option("--keep-op", help="16 bits: this ONNX operator stays float32.")] = [],  # noqa: B006
    keep_name: Annotated[
        list[str], typer.Option("--keep-name", help="16 bits: nodes whose name matches this pattern stay float32.")
    ] = [],  # noqa: B006
    half_borders: Annotated[bool, typer.Option("--half-borders", help="16 bits: inputs and outputs, too.")] = False,
    batch: Annotated[int, typer.Option("--batch", min=0, help="Fix a free batch to this size; 0 leaves it.")] = 0,
    max_batch: Annotated[int, typer.Option("--max-batch", min=1, help="TensorRT: largest of a free batch.")] = 64,
    core: Annotated[str, typer.Option("--core", help="C: the processor, e.g. cortex-m4, rv32imc, host.")] = "cortex-m4",
    name: Annotated[str, typer.Option("--name", help="C: prefix of all symbols.")] = "model",
    four_bit: Annotated[bool, typer.Option("--four-bit", help="C: two 4-bit weights in a byte.")] = False,
    keep_state: Annotated[
        bool, typer.Option("--keep-state", help="C: recurrent layers go on from run to run, until reset.")
    ] = False,
    opset: Annotated[int, typer.Option("--opset", min=13, max=25, help="ONNX: version of the operator set.")] = 17,
) -> int:
    """Write a network as ONNX, ORT, OpenVINO IR, a TensorRT engine, torch.export or AOTInductor .pt2, or as C."""
    _check(form, precision)
    if form == "c":
        typer.echo(_write_c(model, out, core, name, four_bit, keep_state))
    elif form in ("ort", "openvino", "tensorrt") and model.suffix == ".onnx" and precision == "float32":
        _convert(model, out, form, max_batch)
    else:
        from edgepress.exporters.onnx import OnnxOptions
        from edgepress.exporters.onnx_half import KeepFloat

        keep = KeepFloat(tuple(keep_op), tuple(keep_name), not half_borders)
        options = OnnxOptions(opset, precision, keep, batch=batch or None)  # type: ignore[arg-type]  # checked above
        _write(model, out, form, options, max_batch)
    return 0


def _check(form: str, precision: str) -> None:
    from edgepress.errors import UserError

    if form not in FORMATS:
        raise UserError(
            f"cannot export to {form}", found=form, expected=", ".join(FORMATS), fix="edgepress export --format onnx"
        )
    if precision not in ("float32", "float16", "bfloat16"):
        raise UserError("no such precision", found=precision, expected="float32, float16 or bfloat16")
    if precision != "float32" and form in ("pt2", "aot", "c"):
        raise UserError(f"export to {form} has no 16-bit form", found=f"--precision {precision}", expected="float32")


def _write(model: Path, out: Path, form: str, options: OnnxOptions, max_batch: int) -> None:
    from dataclasses import replace

    from edgepress import __version__
    from edgepress.exporters.formats import WriteOptions, write_one
    from edgepress.pipeline.model import open_program

    program = open_program(model)
    options = replace(options, metadata={"edgepress": __version__, "program": program.digest()})
    made = write_one(program, out, form, WriteOptions(options, most_batch=max_batch))
    _say(out)
    for kept in made.kept if made else ():
        typer.echo(f"  stays float32: {kept.node}: {kept.reason}")


def _convert(source: Path, out: Path, form: str, max_batch: int) -> None:
    """An ONNX file as it is, without a detour through a program."""
    from edgepress.exporters.formats import WriteOptions, convert

    convert(source, out, form, WriteOptions(most_batch=max_batch))
    _say(out)


def _say(out: Path) -> None:
    from edgepress.targets.companions import companions

    for path in (out, *companions(out)):
        typer.echo(f"{path}: {path.stat().st_size:,} bytes")


def _write_c(model: Path, out: Path, core: str, name: str, four_bit: bool, keep_state: bool) -> str:
    import tempfile

    from edgepress.exporters.c import Options
    from edgepress.exporters.c import export as export_c

    options = Options(target=core, name=name, four_bit=four_bit, keep_state=keep_state)
    if model.suffix in (".onnx", ".tflite"):
        export_c(model, out, options=options)
    else:
        from edgepress.exporters.onnx import export_onnx
        from edgepress.pipeline.model import open_program

        with tempfile.TemporaryDirectory(prefix="edgepress-") as folder:
            between = Path(folder) / f"{name}.onnx"
            export_onnx(open_program(model), between)
            export_c(between, out, options=options)
    return f"{out}: C for {core}; its README.md names memory, arithmetic and interface"
