"""Operators on integers (QOperator files) become what they mean: dequantize, the float operator, quantize.

So such a file arrives as the fake-quantized network it was made from, with float weights on their grid.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgepress.importers.onnx.entry import Operator, Operators, select
from edgepress.importers.onnx.graph import Step
from edgepress.importers.onnx.ops import conv, elementwise, pool, quant, reduce, shape
from edgepress.importers.onnx.values import Constant, Unsupported


@dataclass(frozen=True)
class Layout:
    """Where an integer operator keeps its tensors.

    Attributes:
        kind, operator: the float operator it stands for.
        tensors: position of each quantized input; its scale and zero point follow it.
        output: position of the output's scale; its zero point follows.
        bias: position of an int32 bias of scale (first scale x second scale), -1 if there is none.
        plain: positions of inputs that are not quantized; they come first.
    """

    kind: str
    operator: Operator
    tensors: tuple[int, ...]
    output: int
    bias: int = -1
    plain: tuple[int, ...] = ()


def _operator(table: Operators, kind: str) -> Operator:
    entry = table[kind]
    return entry if isinstance(entry, Operator) else entry[max(entry)]


def _first(table: Operators, kind: str) -> Operator:
    """The oldest version, with axes as an attribute."""
    entry = table[kind]
    return entry if isinstance(entry, Operator) else entry[min(entry)]


QUANTIZE, DEQUANTIZE = (_operator(quant.OPERATORS, kind) for kind in ("QuantizeLinear", "DequantizeLinear"))

LAYOUTS = {
    "QLinearConv": Layout("Conv", _operator(conv.OPERATORS, "Conv"), (0, 3), 6, 8),
    "com.microsoft::QGemm": Layout("Gemm", _operator(conv.OPERATORS, "Gemm"), (0, 3), 7, 6),
    "com.microsoft::QLinearAdd": Layout("Add", _operator(elementwise.OPERATORS, "Add"), (0, 3), 6),
    "com.microsoft::QLinearMul": Layout("Mul", _operator(elementwise.OPERATORS, "Mul"), (0, 3), 6),
    "com.microsoft::QLinearSigmoid": Layout("Sigmoid", _operator(elementwise.OPERATORS, "Sigmoid"), (0,), 3),
    "com.microsoft::QLinearLeakyRelu": Layout("LeakyRelu", _operator(elementwise.OPERATORS, "LeakyRelu"), (0,), 3),
    "com.microsoft::QLinearAveragePool": Layout("AveragePool", _operator(pool.OPERATORS, "AveragePool"), (0,), 3),
    "com.microsoft::QLinearGlobalAveragePool": Layout(
        "GlobalAveragePool", _operator(pool.OPERATORS, "GlobalAveragePool"), (0,), 3
    ),
    "com.microsoft::QLinearSoftmax": Layout("Softmax", _operator(reduce.OPERATORS, "Softmax"), (0,), 3),
    "com.microsoft::QLinearConv": Layout("Conv", _operator(conv.OPERATORS, "Conv"), (0, 3), 6, 8),
    "com.microsoft::QLinearReduceMean": Layout("ReduceMean", _first(reduce.OPERATORS, "ReduceMean"), (0,), 3),
    "com.microsoft::QLinearWhere": Layout("Where", _operator(elementwise.OPERATORS, "Where"), (1, 4), 7, plain=(0,)),
    "com.microsoft::QLinearConcat": Layout("Concat", _operator(shape.OPERATORS, "Concat"), (), 0),
}


def expand(step: Step, constants: Mapping[str, Constant]) -> tuple[tuple[Step, ...], tuple[Constant, ...]] | None:
    """The float steps of an integer operator and the constants they need; `None` for any other step.

    Channels that come last are brought to the front and back again.
    """
    layout = LAYOUTS.get(step.kind)
    if layout is None or (layout.bias >= 0 and not _has_known_scales(step, layout, constants)):
        return None
    if layout.kind == "Softmax":
        meant = select(reduce.OPERATORS["Softmax"], step.attributes.get("opset", 13))
        layout = replace(layout, operator=meant or layout.operator)
    if layout.kind == "Concat":
        layout = replace(layout, tensors=tuple(range(2, len(step.inputs), 3)))
    base = step.outputs[0]
    floats = [f"{base}::input{i}" for i in range(len(layout.tensors))]
    steps = [_dequantized(step, at, name, i) for i, (at, name) in enumerate(zip(layout.tensors, floats, strict=True))]
    bias = _bias(step, layout, constants)
    attributes = {k: v for k, v in step.attributes.items() if k not in ("channels_last", "opset")}
    inputs = (*(step.inputs[at] for at in layout.plain), *floats, *([bias.name] if bias else []))
    quantized = len(step.inputs) > layout.output and bool(step.inputs[layout.output])
    result = f"{base}::float" if quantized else base
    inner = Step(step.name, layout.kind, layout.operator, inputs, (result,), attributes)
    steps += _between_layouts(inner) if step.attributes.get("channels_last", 0) else [inner]
    if quantized:
        grid = (result, *step.inputs[layout.output : layout.output + 2])
        steps.append(Step(f"{step.name}_quantize", "QuantizeLinear", QUANTIZE, grid, step.outputs))
    return tuple(steps), (bias,) if bias else ()


def _dequantized(step: Step, at: int, name: str, index: int) -> Step:
    """Per-channel scales of the second tensor lie along its output axis."""
    rows = step.kind == "QLinearConv" or bool(step.attributes.get("transB", 0))
    attributes: dict[str, Any] = {"axis": 0 if index == 1 and rows else 1}
    return Step(
        f"{step.name}_input{index}", "DequantizeLinear", DEQUANTIZE, step.inputs[at : at + 3], (name,), attributes
    )


def _has_known_scales(step: Step, layout: Layout, constants: Mapping[str, Constant]) -> bool:
    if len(step.inputs) <= layout.bias or not step.inputs[layout.bias]:
        return True
    return all(step.inputs[at] in constants for at in (layout.bias, 1, 4))


def _bias(step: Step, layout: Layout, constants: Mapping[str, Constant]) -> Constant | None:
    if layout.bias < 0 or len(step.inputs) <= layout.bias or not step.inputs[layout.bias]:
        return None
    stored, first, second = (constants[step.inputs[at]].tensor for at in (layout.bias, 1, 4))
    scale = first.double() * second.double()
    factor = step.attributes.get("alpha", 1.0)
    # Layers that share a bias may have inputs on different grids: each reads the same integers as other numbers.
    return Constant(f"{step.inputs[layout.bias]}::{step.outputs[0]}", (stored.double() * scale * factor).float())


def _between_layouts(step: Step) -> list[Step]:
    """The step on channels that come second, where its first input and its output have them last."""
    first, result = f"{step.inputs[0]}::first", f"{step.outputs[0]}::first"
    inner = replace(step, inputs=(first, *step.inputs[1:]), outputs=(result,))
    return [
        Step(f"{step.name}_to_front", "edgepress::ChannelsFirst", FRONT, step.inputs[:1], (first,)),
        inner,
        Step(f"{step.name}_to_back", "edgepress::ChannelsLast", BACK, (result,), step.outputs),
    ]


def _refuse(*_: Any, **__: Any) -> Any:
    raise Unsupported(
        "an integer operator", found="scales computed while the network runs", expected="constant scales of its bias"
    )


FRONT, BACK = Operator(lambda x: x.movedim(-1, 1)), Operator(lambda x: x.movedim(1, -1))

OPERATORS: Operators = {kind: Operator(_refuse, foldable=False) for kind in LAYOUTS if kind != "QLinearConv"}
