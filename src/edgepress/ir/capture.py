"""Capture a PyTorch module as a `Program`. The module's own Python code is needed here and never again."""

import logging
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim, ExportedProgram

from edgepress.errors import UserError
from edgepress.ir.edit import Editor
from edgepress.ir.program import AXES, Program
from edgepress.ir.recurrent import recurrent_shapes
from edgepress.ir.regions import open_regions

# Recorded by torch.export per node; it names files of the user's machine and would make equal programs differ.
PRIVATE_META = ("stack_trace", "from_node", "source_fn_stack", "torch_fn", "tensor_meta")

# What torch.export checks of a value that a cast reads. The types are in the graph; no runtime has such an operator.
ASSERTIONS = (torch.ops.aten._assert_tensor_metadata.default,)


def capture(
    module: torch.nn.Module,
    example_inputs: Sequence[torch.Tensor],
    *,
    input_names: Sequence[str] = (),
    output_names: Sequence[str] = (),
    dynamic_batch: bool = True,
    dynamic_shapes: Any = None,
    note: str = "",
) -> Program:
    """Export `module` in evaluation mode.

    Args:
        example_inputs: tensors with a leading batch dimension of 2 or more where the batch is dynamic.
        input_names, output_names: names for users and artifacts; from the graph if left out.
        dynamic_batch: leave the first dimension of every input free.
        dynamic_shapes: `torch.export` specification that overrides `dynamic_batch`.
        note: first line of the program's history.

    Raises:
        UserError: torch.export cannot capture the module; names the offending line of the user's code.
    """
    module = module.eval()
    if dynamic_shapes is None and dynamic_batch:
        batch = Dim("batch", min=1)
        dynamic_shapes = tuple({0: batch} for _ in example_inputs)
    try:
        with quiet_torch(), recurrent_shapes():
            exported = torch.export.export(module, tuple(example_inputs), dynamic_shapes=dynamic_shapes)
    except Exception as error:
        raise _capture_error(module, error, dynamic_batch) from error
    return adopt(exported, input_names=input_names, output_names=output_names, note=note)


def adopt(
    exported: ExportedProgram,
    *,
    input_names: Sequence[str] = (),
    output_names: Sequence[str] = (),
    axis_names: Sequence[Mapping[int, str]] = (),
    note: str = "",
) -> Program:
    """Make an exported program ours: private metadata, checks of types and weights nobody reads are dropped,
    regions without gradients or of autocast opened.

    Args:
        axis_names: per input, what its free axes are called.
    """
    _forget_private_meta(exported)
    program = Program(
        exported=exported,
        input_names=tuple(input_names) or _user_input_names(exported),
        output_names=tuple(output_names) or _output_names(exported),
        history=(note,) if note else (),
    )
    for node, names in zip(program.user_inputs(), axis_names, strict=False):
        node.meta["custom"] = {AXES: {str(axis): name for axis, name in names.items()}}
    editor = Editor(program)
    open_regions(editor, exported.graph_module)
    for node in [n for n in editor.graph.nodes if n.target in ASSERTIONS]:
        editor.erase(node)
    return editor.finish()


@contextmanager
def quiet_torch() -> Iterator[None]:
    """torch.export logs and warns about its own internals: none of it is for the user."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)


def _forget_private_meta(exported: ExportedProgram) -> None:
    for submodule in exported.graph_module.modules():
        for node in getattr(getattr(submodule, "graph", None), "nodes", ()):
            for key in PRIVATE_META:
                node.meta.pop(key, None)


def _user_input_names(exported: ExportedProgram) -> tuple[str, ...]:
    return tuple(str(name) for name in exported.graph_signature.user_inputs)


def _output_names(exported: ExportedProgram) -> tuple[str, ...]:
    count = len(exported.graph_signature.user_outputs)
    return ("output",) if count == 1 else tuple(f"output_{i}" for i in range(count))


def _capture_error(module: torch.nn.Module, error: Exception, dynamic_batch: bool) -> UserError:
    """The error of torch.export in three lines, with the user's own line of code."""
    name = type(module).__name__
    line = _offending_line(error)
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    fix = "replace data-dependent Python control flow by tensor operations (torch.where, torch.cond)"
    if dynamic_batch and "batch" in str(error):
        fix = "do not build the batch size into the model, or fix it with `batch: N` under `model.inputs`"
    return UserError(
        f"cannot capture {name}" + (f": {line}" if line else ""),
        found=f"{type(error).__name__}: {reason[:300]}",
        expected="a forward() that torch.export can trace",
        fix=fix,
    )


def _offending_line(error: BaseException) -> str:
    """`file:line: code` of the innermost frame that is the user's, or ""."""
    torch_home, own_home = str(Path(torch.__file__).parent), str(Path(__file__).parent)
    frames = [
        frame
        for link in causes(error)
        for frame in traceback.extract_tb(link.__traceback__)
        if frame.name == "forward" or "forward" in (frame.name or "")
    ]
    mine = [f for f in frames if not f.filename.startswith((torch_home, own_home, "<"))]
    if not mine:
        return ""
    last = mine[-1]
    return f"{last.filename}:{last.lineno}: {last.line}"


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what caused it, and so on. Chains may bite their own tail: each error comes once."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
