"""The network a recipe names, or a file holds, as a `Program`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgepress.errors import UserError
from edgepress.importers.pytorch import FactorySource, InputSpec, from_factory, from_pt2
from edgepress.ir import Program, load
from edgepress.ir.serde import MANIFEST
from edgepress.passes.strip_quantization import strip_quantization
from edgepress.recipe.model import ModelSource, Network


def import_model(source: ModelSource) -> Program:
    """Import what a recipe's `model:` section names.

    Raises:
        UserError: the file, the factory, the weights or the capture fails.
    """
    return import_network(source)


def import_network(source: Network) -> Program:
    """Import what one of the doors of a network leads to.

    Raises:
        UserError: the file, the factory, the weights or the capture fails.
    """
    if source.pt2 is not None:
        return from_pt2(source.pt2)
    if source.onnx is not None:
        return _from_onnx(source.onnx)
    if source.huggingface is not None:
        return _from_huggingface(source)
    return from_factory(_factory_source(source))


def without_grids(program: Program) -> Program:
    """The float network that an already quantized one approximates: what can be pruned, trained and quantized anew."""
    result = strip_quantization(program)
    note = "the grids that the file brought along were taken out"
    return replace(result.program, history=(*result.program.history, note)) if result.changed else program


def open_program(path: Path) -> Program:
    """The program in a file or folder: a saved program, a `.pt2`, an `.onnx`, or a recipe's model.

    Raises:
        UserError: nothing there, or a kind of file that holds no network.
    """
    if path.is_dir():
        return load(path if (path / MANIFEST).exists() else path / "program")
    if not path.exists():
        raise UserError(f"no file {path}", found="nothing", expected="a recipe, a .pt2, an .onnx or a program folder",
                        fix="check the path")  # fmt: skip
    if path.suffix in (".yaml", ".yml"):
        from edgepress.recipe import load as load_recipe

        return import_model(load_recipe(path).model)
    if path.suffix == ".pt2":
        return from_pt2(path)
    if path.suffix == ".onnx":
        return _from_onnx(path)
    raise UserError(f"cannot read a network from {path}", found=f"a {path.suffix or 'nameless'} file",
                    expected=".yaml, .pt2, .onnx or a program folder")  # fmt: skip


def _from_onnx(path: Path) -> Program:
    from edgepress.importers.onnx import load as load_onnx

    return load_onnx(path)


def _from_huggingface(source: Network) -> Program:
    from edgepress.importers.huggingface import from_huggingface

    assert source.huggingface is not None
    return from_huggingface(source.huggingface, _inputs(source), batch=_batch(source))


def _factory_source(source: Network) -> FactorySource:
    assert source.factory is not None
    return FactorySource(
        reference=source.factory,
        kwargs=source.kwargs,
        weights=source.weights,
        inputs=_inputs(source),
        batch=_batch(source),
        base=Path(),
    )


def _inputs(source: Network) -> list[InputSpec]:
    return [InputSpec(name, tuple(spec.shape), spec.dtype) for name, spec in source.inputs.items()]


def _batch(source: Network) -> int | None:
    """The one batch size of all inputs, `None` where it is free.

    Raises:
        UserError: they differ.
    """
    batches = {spec.batch for spec in source.inputs.values()}
    if len(batches) > 1:
        raise UserError(
            "the inputs of the network have different batch sizes",
            found=str(sorted(map(str, batches))),
            expected="one `batch`, or none",
            fix="give every input under model.inputs the same batch",
        )
    return batches.pop() if batches else None
