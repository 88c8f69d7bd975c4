"""The door itself: an `.onnx` file in, a trainable module or `Program` out."""

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim, ExportedProgram

from edgepress.errors import UserError
from edgepress.importers.onnx.batch import BatchAxes, find_batch
from edgepress.importers.onnx.dynamic import float_products
from edgepress.importers.onnx.executor import Environment, Executor
from edgepress.importers.onnx.fold import fold, silent_torch
from edgepress.importers.onnx.graph import InputSpec, Network, Step
from edgepress.importers.onnx.inputs import (
    Shape,
    axis_names,
    candidate_shapes,
    check_tensors,
    dynamic_axes,
    examples,
    given_examples,
    is_batch,
    is_image,
    named_batch,
    stand_in,
)
from edgepress.importers.onnx.layers import recognise_layers
from edgepress.importers.onnx.lower import lower
from edgepress.importers.onnx.module import OnnxModule
from edgepress.importers.onnx.read import read_model
from edgepress.importers.onnx.values import Constant, Value, ensure_affordable, torch_dtype
from edgepress.ir.capture import adopt, causes, quiet_torch
from edgepress.ir.program import Program, Refusal
from edgepress.ir.recurrent import recurrent_shapes

EXPORT_BATCH = 2


@dataclass(frozen=True)
class OnnxModel:
    """An imported network.

    Attributes:
        module: its parameters are the file's weights; `module(*example_inputs)` gives a tuple of outputs.
        example_inputs: one tensor per input, of sizes that were seen to run.
        dynamic_shapes: what was given to `torch.export` (for `forward(*inputs)`): per input, axis -> `Dim`.
        exported: the training-IR graph, weights shared with `module`.
        input_names, output_names: as in the file, without inputs that were bound.
        opset: of the default domain.
        notes: what a user should know: widened types, random outputs, axes that became fixed.
        refusals: what was not done, and why.
        axis_names: per input, what the file calls its open axes other than the batch.
    """

    module: OnnxModule
    example_inputs: tuple[Tensor, ...]
    dynamic_shapes: tuple[tuple[dict[int, Any], ...]]
    exported: ExportedProgram
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    opset: int
    notes: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    axis_names: tuple[dict[int, str], ...] = ()


@dataclass(frozen=True)
class Options:
    """How a file is imported.

    Attributes:
        bind: inputs fixed to a value, which makes them constants (`{"sr": 16000}`).
        example_inputs: by name or in order; made up if left out.
        shapes: sizes of example inputs by name, for files that leave them open.
        dynamic: "batch": keep open batch and sequence axes open, and try to open a batch that is fixed at 1; "all":
            also height and width (symbolic image sizes make tracing and every later pass slow); "none": fixed sizes.
        sha256: the digest the file must have.
    """

    bind: Mapping[str, Any] = field(default_factory=dict)
    example_inputs: Mapping[str, Any] | Sequence[Any] | None = None
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    dynamic: Literal["batch", "all", "none"] = "batch"
    sha256: str | None = None


def load(path: Path | str, **options: Any) -> Program:
    """Import an `.onnx` file as a `Program`. Options as in `to_module`.

    Raises:
        UserError: see `to_module`.
    """
    return program_of(to_module(path, **options), Path(path).name)


def program_of(model: OnnxModel, name: str) -> Program:
    """An imported network as a `Program`; `name` is that of the file."""
    notes = [f"onnx: {note}" for note in (*model.notes, *map(str, model.refusals))]
    with quiet_torch():
        program = adopt(
            model.exported,
            input_names=model.input_names,
            output_names=model.output_names,
            axis_names=model.axis_names,
            note=f"imported from {name} (opset {model.opset})",
        )
    return replace(program, history=(*program.history, *notes))


def to_module(path: Path | str, **options: Any) -> OnnxModel:
    """Import an `.onnx` file (opset 7 and up) as a module that `torch.export` takes and that can be trained.

    Args:
        path: the file; external data must lie in its folder.
        options: the fields of `Options`.

    Raises:
        Unsupported: operators, types or opsets this importer does not take, named with the node.
        UserError: a file that is damaged, or inputs that do not fit.
    """
    chosen = Options(**options)
    source = Path(path)
    return convert(read_network(source, chosen), chosen)


def read_network(path: Path, options: Options) -> Network:
    """The file as steps, constants folded and layers recognised."""
    network = bind(lower(read_model(path, options.sha256)), options.bind)
    network = replace(network, inputs=named_batch(network.inputs))
    return recognise_layers(float_products(fold(network)))


def bind(network: Network, values: Mapping[str, Any]) -> Network:
    """Make inputs constants.

    Raises:
        UserError: a name that is no input.
    """
    known = {spec.name: spec for spec in network.inputs}
    constants = dict(network.constants)
    for name, value in values.items():
        if name not in known:
            raise UserError(f"cannot bind {name!r}", found="no such input", expected=", ".join(known))
        kind = known[name].onnx_type
        tensor = torch.as_tensor(np.array(value))
        constants[name] = Constant(name, tensor.to(torch_dtype(kind)) if kind else tensor)
    inputs = tuple(spec for spec in network.inputs if spec.name not in values)
    body = replace(network.body, inputs=tuple(spec.name for spec in inputs))
    return replace(network, inputs=inputs, body=body, constants=constants)


def convert(network: Network, options: Options) -> OnnxModel:
    """Find example inputs, open the batch if possible, and export."""
    inputs = choose_inputs(network, options)
    axes, batch, notes = open_axes(network, inputs, options)
    module = OnnxModule(network, new_batch=batch is not None)
    if batch is not None:
        inputs = with_batch(inputs, batch)
    inputs, axes, exported, more = export(module, inputs, axes)
    return OnnxModel(
        module=module,
        example_inputs=inputs,
        dynamic_shapes=(axes,),
        exported=exported,
        input_names=tuple(spec.name for spec in network.inputs),
        output_names=network.output_names,
        opset=network.opset,
        notes=(*network.notes, *quantization(network), *notes, *more, *random_outputs(network)),
        axis_names=tuple(axis_names(spec) for spec in network.inputs),
    )


def choose_inputs(network: Network, options: Options) -> tuple[Tensor, ...]:
    """The user's example inputs, or the first made-up ones that the network runs with.

    Raises:
        UserError: none does; the first failure is shown.
    """
    if options.example_inputs is not None:
        inputs = given_examples(network.inputs, options.example_inputs)
        try_run(network, [tuple(value.shape) for value in inputs], lambda: inputs)
        return inputs
    check_tensors(network.inputs)
    first: UserError | None = None
    for shapes in candidate_shapes(network.inputs, options.shapes):
        make = functools.partial(examples, network.inputs, shapes)
        try:
            try_run(network, [shapes[spec.name] for spec in network.inputs], make)
        except UserError as error:
            first = first or error
            continue
        return make()
    raise first or UserError("the network has no inputs to try", expected="at least one shape")


def try_run(network: Network, shapes: Sequence[Shape], make: Callable[[], tuple[Tensor, ...]]) -> None:
    """Run once: on shapes alone, with a limit on each activation, and on numbers only if shapes do not decide.

    Args:
        shapes: of the inputs. make: gives inputs of these shapes, where numbers are needed.

    Raises:
        UserError: the network does not take these inputs.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    checked = CheckedExecutor(network.constants, lambda constant: mode.from_tensor(constant.tensor), both_branches=True)
    try:
        with silent_torch(), recurrent_shapes(), mode, torch.no_grad():
            inputs = [stand_in(spec, shape) for spec, shape in zip(network.inputs, shapes, strict=True)]
            checked.run(network.body, dict(zip(network.body.inputs, inputs, strict=True)))
    except UserError as error:
        if not _depends_on_data(error):
            raise
        real = CheckedExecutor(network.constants, lambda constant: constant.tensor, both_branches=True)
        with torch.no_grad():
            real.run(network.body, dict(zip(network.body.inputs, make(), strict=True)))


class CheckedExecutor(Executor):
    """Refuses to go on after an absurdly large activation."""

    def run_step(self, step: Step, environment: Environment) -> list[Value]:
        results = super().run_step(step, environment)
        for value in results:
            if isinstance(value, Tensor):
                ensure_affordable(value.shape, value.dtype)
        return results


def _depends_on_data(error: BaseException | None) -> bool:
    names = [type(link).__name__ for link in causes(error)]
    return any("DataDependent" in name or "DynamicOutputShape" in name for name in names)


Axes = tuple[dict[int, Any], ...]


def open_axes(
    network: Network, inputs: tuple[Tensor, ...], options: Options
) -> tuple[Axes, BatchAxes | None, tuple[str, ...]]:
    """The axes to export as dynamic: those the file leaves open, or a batch of 1 that can be opened."""
    if options.dynamic == "none":
        return tuple({} for _ in inputs), None, ()
    declared = dynamic_axes(network.inputs)
    kept = declared if options.dynamic == "all" else without_image_sizes(network.inputs, declared)
    notes = tuple(
        f"axes {sorted(set(declared[spec.name]) - set(kept[spec.name]))} of input {spec.name!r} are open in the file "
        f"and fixed here at {list(value.shape)} (dynamic='all' keeps them open)"
        for spec, value in zip(network.inputs, inputs, strict=True)
        if declared[spec.name] != kept[spec.name]
    )
    if any(kept.values()):
        return tuple(dict.fromkeys(kept[spec.name], Dim.AUTO) for spec in network.inputs), None, notes
    batch, axes, more = open_batch(network, inputs)
    return axes, batch, (*notes, more)


def without_image_sizes(specs: Sequence[InputSpec], axes: Mapping[str, list[int]]) -> dict[str, list[int]]:
    """Open axes except height and width: of pictures only the batch stays."""
    return {
        spec.name: [axis for axis in axes[spec.name] if not is_image(spec) or is_batch(spec, axis)] for spec in specs
    }


def open_batch(network: Network, inputs: tuple[Tensor, ...]) -> tuple[BatchAxes | None, Axes, str]:
    """Try to open a batch that the file fixes at 1."""
    found = find_batch(network, [tuple(value.shape) for value in inputs])
    if isinstance(found, str):
        return None, tuple({} for _ in inputs), f"the batch stays fixed at 1: {found}"
    axes: Axes = tuple({} if axis is None else {axis: Dim.AUTO} for axis in found.inputs)
    return found, axes, "the file fixes the batch at 1; it was opened, and each sample gives the same alone"


def with_batch(inputs: tuple[Tensor, ...], batch: BatchAxes) -> tuple[Tensor, ...]:
    """Example inputs with two samples."""
    return tuple(
        value if axis is None else torch.cat([value] * EXPORT_BATCH, axis)
        for value, axis in zip(inputs, batch.inputs, strict=True)
    )


def export(
    module: OnnxModule, inputs: tuple[Tensor, ...], axes: Axes
) -> tuple[tuple[Tensor, ...], Axes, ExportedProgram, tuple[str, ...]]:
    """Export with dynamic axes, or without where the network does not allow them.

    Raises:
        UserError: not even fixed sizes can be exported.
    """
    notes: tuple[str, ...] = ()
    if any(axes):
        try:
            exported = export_once(module, inputs, axes)
        except UserError as error:
            notes = (f"all axes are fixed at {[tuple(v.shape) for v in inputs]}: {error.what}",)
        else:
            return inputs, axes, exported, fixed_axes(module, exported, axes)
    return inputs, tuple({} for _ in inputs), export_once(module, inputs, tuple({} for _ in inputs)), notes


def export_once(module: OnnxModule, inputs: tuple[Tensor, ...], axes: Axes) -> ExportedProgram:
    """One `torch.export`.

    Raises:
        UserError: with torch's reason.
    """
    try:
        with quiet_torch(), recurrent_shapes():
            return torch.export.export(module, inputs, dynamic_shapes=(axes,))
    except UserError:
        raise
    except Exception as error:  # torch.export raises many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"torch.export cannot trace the network: {reason[:300]}",
            found=type(error).__name__,
            expected="a network whose structure does not depend on its inputs' values",
            fix="fix the inputs that steer it (bind=) or give shapes (shapes=, dynamic='none')",
        ) from error


def fixed_axes(module: OnnxModule, exported: ExportedProgram, axes: Axes) -> tuple[str, ...]:
    """A note for each axis that the file leaves open and the network fixes."""
    names = set(exported.graph_signature.user_inputs)
    nodes = [node for node in exported.graph.nodes if node.op == "placeholder" and node.name in names]
    return tuple(
        f"axis {axis} of input {spec.name!r} is fixed at {node.meta['val'].shape[axis]}: the network needs that size"
        for spec, node, wanted in zip(module.network.inputs, nodes, axes, strict=True)
        for axis in wanted
        if isinstance(node.meta["val"].shape[axis], int)
    )


def quantization(network: Network) -> tuple[str, ...]:
    """A note if the file was quantized already."""
    kinds = Counter(step.kind.rsplit("::", 1)[-1] for step in network.body.all_steps())
    weights = sum(kinds[kind] for kind in ("QuantizedWeight", "QuantizedLinear", "QuantizedRows"))
    grids = kinds["QuantizeLinear"] + kinds["DynamicQuantizeLinear"] + kinds["DynamicGrid"]
    fakes = kinds["Quant"] + kinds["BipolarQuant"]
    integers = sum(kinds[kind] for kind in INTEGER_KINDS)
    if not weights + grids + fakes + integers + kinds["DequantizeLinear"]:
        return ()
    return (
        f"the file is quantized already: {grids} activation grids, {weights} weights on integer grids, {fakes} QONNX "
        f"quantizers and {integers} integer operators are kept as fake quantization; weights are float",
    )


INTEGER_KINDS = ("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul")


def random_outputs(network: Network) -> tuple[str, ...]:
    """A note for each output that random numbers reach."""
    tainted: set[str] = set()
    for step in network.body.steps:
        if step.operator.stochastic or any(name in tainted for name in step.inputs):
            tainted.update(step.outputs)
    return tuple(
        f"output {shown!r} is random: it cannot be compared with another runtime"
        for name, shown in zip(network.body.outputs, network.output_names, strict=True)
        if name in tainted
    )
