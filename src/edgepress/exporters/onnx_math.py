"""Arithmetic, comparisons and reductions that imported files are full of: ATen to ONNX."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.fx import Node

from edgepress.exporters.onnx_graph import ARITHMETIC, ELEMENT, GraphBuilder, NotTranslated, is_size
from edgepress.exporters.onnx_ops import Translation, arg, gelu_by_erf, nothing, rank
from edgepress.ir.text import op_name

# -- operands ------------------------------------------------------------------------------------------------------


def axes_of(node: Node, position: int, source: Node) -> list[int]:
    """Axes counted from the front; all of them where none is given."""
    given = arg(node, position)
    if given is None or given == []:
        return list(range(rank(source)))
    return [int(axis) % max(rank(source), 1) for axis in (given if isinstance(given, list | tuple) else [given])]


def operands(g: GraphBuilder, values: tuple[Any, ...], dtype: torch.dtype) -> list[str]:
    """Names of tensors and numbers, all as `dtype`: torch mixes types in one operator, ONNX does not."""
    return [_as_type(g, value, dtype) for value in values]


def common_type(values: tuple[Any, ...]) -> torch.dtype:
    """The type in which torch compares its operands."""
    plain = [value.meta["val"] if isinstance(value, Node) else value for value in values]
    return torch.result_type(*plain)


def _as_type(g: GraphBuilder, value: Any, dtype: torch.dtype) -> str:
    if isinstance(value, bool | int | float):
        return g.scalar(value, dtype)
    if is_size(value):
        return g.number(value, dtype)
    if not isinstance(value, Node) or not isinstance(value.meta.get("val"), torch.Tensor):
        raise NotTranslated(f"{value} among tensors")
    name = g.name(value)
    return name if value.meta["val"].dtype == dtype else g.emit("Cast", [name], to=ELEMENT[dtype])


# -- elementwise ---------------------------------------------------------------------------------------------------


def _arithmetic(op: str) -> Translation:
    def rule(g: GraphBuilder, node: Node, out: str) -> None:
        g.emit(op, operands(g, node.args[:2], node.meta["val"].dtype), out=out)

    return rule


def _comparison(op: str) -> Translation:
    def rule(g: GraphBuilder, node: Node, out: str) -> None:
        g.emit(op, operands(g, node.args[:2], common_type(node.args[:2])), out=out)

    return rule


def _not_equal(g: GraphBuilder, node: Node, out: str) -> None:
    equal = g.emit("Equal", operands(g, node.args[:2], common_type(node.args[:2])))
    g.emit("Not", [equal], out=out)


def _logical(op: str) -> Translation:
    def rule(g: GraphBuilder, node: Node, out: str) -> None:
        g.emit(op, operands(g, node.args, torch.bool), out=out)

    return rule


def _bitwise(op: str) -> Translation:
    """`&`, `|`, `^` and `~` of truth values; of integers they need opset 18."""

    def rule(g: GraphBuilder, node: Node, out: str) -> None:
        if node.meta["val"].dtype != torch.bool:
            raise NotTranslated(f"{op_name(node)} of integers")
        g.emit(op, operands(g, node.args, torch.bool), out=out)

    return rule


def _where(g: GraphBuilder, node: Node, out: str) -> None:
    condition, *values = node.args
    names = operands(g, (condition,), torch.bool) + operands(g, tuple(values), node.meta["val"].dtype)
    g.emit("Where", names, out=out)


def _masked_fill(g: GraphBuilder, node: Node, out: str) -> None:
    source, mask, value = node.args[:3]
    filling, kept = operands(g, (value, source), node.meta["val"].dtype)
    g.emit("Where", [g.name(mask), filling, kept], out=out)


def _float_unary(op: str) -> Translation:
    def rule(g: GraphBuilder, node: Node, out: str) -> None:
        g.emit(op, operands(g, (node.args[0],), node.meta["val"].dtype), out=out)

    return rule


def _rsqrt(g: GraphBuilder, node: Node, out: str) -> None:
    g.emit("Reciprocal", [g.emit("Sqrt", [g.name(arg(node, 0))])], out=out)


def _square(g: GraphBuilder, node: Node, out: str) -> None:
    g.emit("Mul", [g.name(arg(node, 0))] * 2, out=out)


def _scaled(op: str) -> Translation:
    """add and sub with alpha: a + alpha b."""

    def rule(g: GraphBuilder, node: Node, out: str) -> None:
        dtype, alpha = node.meta["val"].dtype, node.kwargs.get("alpha", 1)
        left, right = operands(g, node.args[:2], dtype)
        right = right if alpha == 1 else g.emit("Mul", [right, g.scalar(alpha, dtype)])  # type: ignore[arg-type]
        g.emit(op, [left, right], out=out)

    return rule


def _reversed_difference(g: GraphBuilder, node: Node, out: str) -> None:
    """rsub: b - a."""
    left, right = operands(g, node.args[:2], node.meta["val"].dtype)
    g.emit("Sub", [right, left], out=out)


def _division_rounded(g: GraphBuilder, node: Node, out: str) -> None:
    """`floor` of floats; integer division of ONNX truncates, which is `trunc`."""
    dtype, mode = node.meta["val"].dtype, node.kwargs.get("rounding_mode")
    quotient = operands(g, node.args[:2], dtype)
    if mode is None or (mode == "trunc" and not dtype.is_floating_point):
        g.emit("Div", quotient, out=out)
    elif mode == "floor" and dtype.is_floating_point:
        g.emit("Floor", [g.emit("Div", quotient)], out=out)
    else:
        raise NotTranslated(f"division of {dtype} rounded by {mode}")


def _mish(g: GraphBuilder, node: Node, out: str) -> None:
    """x tanh(ln(1 + e^x)), Misra 2019; ONNX has it from opset 18 on."""
    x = g.name(arg(node, 0))
    g.emit("Mul", [x, g.emit("Tanh", [g.emit("Softplus", [x])])], out=out)


def _log_softmax(g: GraphBuilder, node: Node, out: str) -> None:
    g.emit("LogSoftmax", [g.name(arg(node, 0))], out=out, axis=arg(node, 1))


def _gelu(g: GraphBuilder, node: Node, out: str) -> None:
    """The exact form as ever; the other: 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), Hendrycks, Gimpel 2016."""
    if node.kwargs.get("approximate", "none") == "none":
        gelu_by_erf(g, node, out)
        return
    x = g.name(arg(node, 0))
    cubed = g.emit("Mul", [g.emit("Mul", [g.emit("Mul", [x, x]), x]), g.scalar(0.044715)])
    inner = g.emit("Tanh", [g.emit("Mul", [g.emit("Add", [x, cubed]), g.scalar(math.sqrt(2 / math.pi))])])
    g.emit("Mul", [g.emit("Mul", [x, g.scalar(0.5)]), g.emit("Add", [inner, g.scalar(1.0)])], out=out)


# -- reductions ----------------------------------------------------------------------------------------------------


def _reduction(op: str, *, axes_as_input: bool = False) -> Translation:
    """Opset 17 gives the axes of a sum as an input, those of every other reduction as an attribute."""

    def rule(g: GraphBuilder, node: Node, out: str) -> None:
        source = arg(node, 0)
        axes, keep = axes_of(node, 1, source), int(bool(arg(node, 2, False)))
        name = operands(g, (source,), node.meta["val"].dtype)[0]
        if axes_as_input:
            g.emit(op, [name, g.integers(axes)], out=out, keepdims=keep)
        else:
            g.emit(op, [name], out=out, axes=axes, keepdims=keep)

    return rule


def _position(op: str) -> Translation:
    def rule(g: GraphBuilder, node: Node, out: str) -> None:
        source, axis = arg(node, 0), arg(node, 1)
        name = g.name(source)
        if axis is None:
            name, axis = g.emit("Reshape", [name, g.integers([-1])]), 0
        g.emit(op, [name], out=out, axis=axis, keepdims=int(bool(arg(node, 2, False))))

    return rule


def _extreme(op: str, position: str) -> Translation:
    """max.dim and min.dim: values and where they are."""

    def rule(g: GraphBuilder, node: Node, out: str) -> None:
        source, axis = g.name(arg(node, 0)), int(arg(node, 1)) % max(rank(arg(node, 0)), 1)
        keep = int(bool(arg(node, 2, False)))
        g.emit(op, [source], out=f"{out}_0", axes=[axis], keepdims=keep)
        g.emit(position, [source], out=f"{out}_1", axis=axis, keepdims=keep)

    return rule


def _topk(g: GraphBuilder, node: Node, out: str) -> None:
    axis = arg(node, 2, -1)
    g.emit("TopK", [g.name(arg(node, 0)), g.sizes([arg(node, 1)])], out=[f"{out}_0", f"{out}_1"], axis=axis,
           largest=int(arg(node, 3, True)), sorted=int(arg(node, 4, True)))  # fmt: skip


def _order(g: GraphBuilder, node: Node, out: str) -> None:
    """argsort and sort: TopK of everything, equal values in the order in which they lie."""
    how = {**dict(zip(("dim", "descending"), node.args[1:], strict=False)), **node.kwargs}
    source, axis = arg(node, 0), int(how.get("dim", -1))  # type: ignore[call-overload]
    count = source.meta["val"].shape[axis]
    wanted = g.integers([count]) if isinstance(count, int) else g.sizes([(source, axis % rank(source))])
    several = not isinstance(node.meta["val"], torch.Tensor)
    outputs = [f"{out}_0", f"{out}_1"] if several else [g.fresh("t"), out]
    g.emit("TopK", [g.name(source), wanted], out=outputs, axis=axis, largest=int(bool(how.get("descending", False))))


def _cumulated(g: GraphBuilder, node: Node, out: str) -> None:
    name = operands(g, (arg(node, 0),), node.meta["val"].dtype)[0]
    g.emit("CumSum", [name, g.constant(np.asarray(arg(node, 1), np.int64))], out=out)


def _norm(g: GraphBuilder, node: Node, out: str) -> None:
    power = arg(node, 1, 2)
    op = {1: "ReduceL1", 2: "ReduceL2"}.get(power)
    if op is None or node.kwargs:
        raise NotTranslated(f"a norm of order {power}")
    g.emit(op, [g.name(arg(node, 0))], out=out, axes=axes_of(node, 2, arg(node, 0)), keepdims=int(arg(node, 3, False)))


COMPARISONS = {"eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual"}
UNARY = {
    "reciprocal": "Reciprocal", "erf": "Erf", "sin": "Sin", "cos": "Cos", "tan": "Tan", "atan": "Atan", "asin": "Asin",
    "acos": "Acos", "sinh": "Sinh", "cosh": "Cosh",
}  # fmt: skip
SIZES = (*ARITHMETIC, "neg", "eq", "ge", "le", "gt", "lt")
MATH: Mapping[str, Translation] = {
    **{f"aten.{name}.{form}": _comparison(op) for name, op in COMPARISONS.items() for form in ("Tensor", "Scalar")},
    **{f"aten.{name}": _float_unary(op) for name, op in UNARY.items()},
    **dict.fromkeys(SIZES, nothing),  # sizes are computed where a shape asks for them (GraphBuilder.sizes)
    "aten.ne.Tensor": _not_equal, "aten.ne.Scalar": _not_equal,
    "aten.logical_and": _logical("And"), "aten.logical_or": _logical("Or"), "aten.logical_xor": _logical("Xor"),
    "aten.logical_not": _logical("Not"), "aten.bitwise_not": _bitwise("Not"),
    "aten.bitwise_and.Tensor": _bitwise("And"), "aten.bitwise_or.Tensor": _bitwise("Or"),
    "aten.bitwise_xor.Tensor": _bitwise("Xor"), "aten.__and__.Tensor": _bitwise("And"),
    "aten.__or__.Tensor": _bitwise("Or"), "aten.__xor__.Tensor": _bitwise("Xor"),
    "aten.where.self": _where, "aten.where.ScalarOther": _where, "aten.where.ScalarSelf": _where,
    "aten.where.Scalar": _where,
    "aten.masked_fill.Scalar": _masked_fill, "aten.masked_fill.Tensor": _masked_fill,
    "aten.minimum": _arithmetic("Min"), "aten.maximum": _arithmetic("Max"),
    **{f"aten.pow.{form}": _arithmetic("Pow") for form in ("Tensor_Scalar", "Tensor_Tensor", "Scalar")},
    "aten.add.Scalar": _scaled("Add"), "aten.sub.Scalar": _scaled("Sub"), "aten.mul.Scalar": _arithmetic("Mul"),
    "aten.div.Scalar": _arithmetic("Div"), "aten.rsub.Scalar": _reversed_difference,
    "aten.rsub.Tensor": _reversed_difference, "aten.div.Tensor_mode": _division_rounded,
    "aten.rsqrt": _rsqrt, "aten.square": _square, "aten.log_softmax.int": _log_softmax,
    "aten.gelu": _gelu, "aten.mish": _mish,
    "aten.sum.dim_IntList": _reduction("ReduceSum", axes_as_input=True),
    "aten.sum": _reduction("ReduceSum", axes_as_input=True), "aten.prod.dim_int": _reduction("ReduceProd"),
    "aten.amax": _reduction("ReduceMax"), "aten.amin": _reduction("ReduceMin"), "aten.mean": _reduction("ReduceMean"),
    "aten.logsumexp": _reduction("ReduceLogSumExp"), "aten.linalg_vector_norm": _norm,
    "aten.argmax": _position("ArgMax"), "aten.argmin": _position("ArgMin"),
    "aten.max.dim": _extreme("ReduceMax", "ArgMax"), "aten.min.dim": _extreme("ReduceMin", "ArgMin"),
    "aten.topk": _topk, **dict.fromkeys(("aten.argsort", "aten.sort", "aten.sort.stable"), _order),
    "aten.cumsum": _cumulated,
}  # fmt: skip
"""ATen operator -> translation."""
