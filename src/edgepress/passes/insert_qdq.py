"""Apply a calibrated `QuantPlan`: put quantize/dequantize pairs into the graph.

Weights stay float parameters behind their pair, so that the program can still be trained; its outputs are those of the
integer arithmetic. The operators are the standard `quantized_decomposed` ones.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Node

from edgepress.errors import UserError
from edgepress.ir import float8_ops, quant_ops  # noqa: F401  (registers the operators below)
from edgepress.ir.edit import Editor
from edgepress.ir.program import PassResult, Program
from edgepress.ir.quant_plan import ActivationPoint, BiasPoint, Grid, QuantPlan, WeightPoint

qd, ep = torch.ops.quantized_decomposed, torch.ops.edgepress
FLOAT8 = "float8e4m3fn"
DTYPES = {"int8": torch.int8, "uint8": torch.uint8, "int32": torch.int32}
# The largest float32 below 2**31: the last step before the conversion to int32 would overflow.
BIAS_REACH = 2**31 - 128
PLAN = "quantize"


def insert_qdq(program: Program, plan: QuantPlan) -> PassResult:
    """The program with its quantization written into the graph; the plan is kept under `plans["quantize"]`.

    Raises:
        UserError: the plan has not been calibrated, or names nodes or tensors that the program does not have.
    """
    _check(program, plan)
    editor = Editor(program)
    for point in plan.activations:
        _quantize_activation(editor, point)
    stored = {tensor: editor.node(node) for node, tensor in program.state_names().items()}
    for weight in plan.weights:
        _quantize_weight(editor, stored[weight.tensor], weight)
    for bias in plan.biases:
        _quantize_bias(editor, stored[bias.tensor], bias)
    note = f"quantized for {plan.target}: {len(plan.weights)} weights, {len(plan.activations)} activations"
    result = editor.finish(note=note, plans={PLAN: plan.model_dump(mode="json")})
    return PassResult(result, changed=bool(plan.activations or plan.weights))


def _check(program: Program, plan: QuantPlan) -> None:
    nodes, state = {n.name for n in program.graph.nodes}, program.state()
    strangers = [p.node for p in plan.activations if p.node not in nodes]
    strangers += [w.tensor for w in plan.weights if w.tensor not in state]
    if strangers:
        raise UserError("the quantization plan belongs to another program", found=f"{strangers[0]} in the plan",
                        expected="names of this program", fix="place and calibrate again")  # fmt: skip
    open_ends = [p.node for p in plan.activations if p.scale is None]
    open_ends += [w.tensor for w in plan.weights if not w.scales]
    if open_ends:
        raise UserError("the quantization plan is not calibrated", found=f"{open_ends[0]} has no scale",
                        expected="a scale everywhere", fix="run calibrate(program, plan, batches) first")  # fmt: skip


def _quantize_activation(editor: Editor, point: ActivationPoint) -> None:
    value = editor.node(point.node)
    users = [editor.node(name) for name in point.readers] or list(value.users)
    if point.grid.dtype == FLOAT8:
        _float8_activation(editor, point, value, users)
        return
    settings = (point.scale, point.zero_point, point.grid.low, point.grid.high, DTYPES[point.grid.dtype])
    after = _last_placeholder(editor) if value.op == "placeholder" else value
    quantize = editor.call(qd.quantize_per_tensor.default, (value, *settings), after=after, name=f"{value.name}_q")
    real = editor.call(qd.dequantize_per_tensor.default, (quantize, *settings), after=quantize, name=f"{value.name}_dq")
    for user in users:
        editor.replace_input(user, value, real)


def _float8_activation(editor: Editor, point: ActivationPoint, value: Node, users: Sequence[Node]) -> None:
    scale = editor.add_tensor(f"float8.{point.node}_scale", torch.tensor(point.scale, dtype=torch.float32))
    after = _last_placeholder(editor) if value.op == "placeholder" else value
    settings = (scale, float8_ops.PER_TENSOR)
    quantize = editor.call(ep.quantize_float8.default, (value, *settings), after=after, name=f"{value.name}_q")
    real = editor.call(ep.dequantize_float8.default, (quantize, *settings), after=quantize, name=f"{value.name}_dq")
    for user in users:
        editor.replace_input(user, value, real)


def _last_placeholder(editor: Editor) -> Node:
    return [n for n in editor.graph.nodes if n.op == "placeholder"][-1]


def _quantize_weight(editor: Editor, source: Node, point: WeightPoint) -> None:
    if point.grid.dtype == FLOAT8:
        pair = _float8_pair(editor, source, point)
    elif point.block is None:
        pair = _pair(editor, source, point.tensor, point.scales, point.axis, point.grid)
    else:
        pair = _pair_of_blocks(editor, source, point, point.block)
    for name in point.nodes:
        editor.replace_input(editor.node(name), source, pair)


def _quantize_bias(editor: Editor, source: Node, point: BiasPoint) -> None:
    grid = Grid(dtype="int32", low=-BIAS_REACH, high=BIAS_REACH, symmetric=True)
    axis = 0 if len(point.scales) > 1 else None
    pair = _pair(editor, source, f"{point.tensor}_{point.node}", point.scales, axis, grid)
    editor.replace_input(editor.node(point.node), source, pair)


def _pair(editor: Editor, source: Node, name: str, scales: Sequence[float], axis: int | None, grid: Grid) -> Node:
    """quantize -> dequantize behind a parameter; returns the dequantize node. `name`: of the scales."""
    dtype = DTYPES[grid.dtype]
    settings: tuple[Any, ...]
    if axis is None:
        ops = (qd.quantize_per_tensor.default, qd.dequantize_per_tensor.default)
        settings = (scales[0], 0, grid.low, grid.high, dtype)
    else:
        ops = (qd.quantize_per_channel.default, qd.dequantize_per_channel.default)
        scale = editor.add_tensor(f"{name}_scale", torch.tensor(scales, dtype=torch.float32))
        zero = editor.add_tensor(f"{name}_zero_point", torch.zeros(len(scales), dtype=torch.int64))
        settings = (scale, zero, axis, grid.low, grid.high, dtype)
    return _at_the_start(editor, source, ops, settings)


def _float8_pair(editor: Editor, source: Node, point: WeightPoint) -> Node:
    """The same on float8 numbers."""
    values = torch.tensor(point.scales, dtype=torch.float32)
    scale = editor.add_tensor(f"{point.tensor}_scale", values if point.axis is not None else values.reshape(()))
    settings = (scale, float8_ops.PER_TENSOR if point.axis is None else point.axis)
    ops = (ep.quantize_float8.default, ep.dequantize_float8.default)
    return _at_the_start(editor, source, ops, settings)


def _pair_of_blocks(editor: Editor, source: Node, point: WeightPoint, block: int) -> Node:
    """The same for a matrix with scales of shape (rows, columns / block)."""
    dtype = DTYPES[point.grid.dtype]
    scales = torch.tensor(point.scales, dtype=torch.float32).reshape(editor.state[point.tensor].shape[0], -1)
    scale = editor.add_tensor(f"{point.tensor}_scale", scales)
    zero = editor.add_tensor(f"{point.tensor}_zero_point", torch.zeros(scales.shape, dtype=torch.int32))
    settings = (scale, zero, point.grid.low, point.grid.high, dtype, block)
    ops = (qd.quantize_per_channel_group.default, qd.dequantize_per_channel_group.default)
    return _at_the_start(editor, source, ops, settings, (torch.float32,))


def _at_the_start(
    editor: Editor, source: Node, ops: Sequence[Any], settings: tuple[Any, ...], more: tuple[Any, ...] = ()
) -> Node:
    """Both nodes before all others; `more` are arguments of the second one alone."""
    first = next(n for n in editor.graph.nodes if n.op != "placeholder")
    quantize = editor.call(ops[0], (source, *settings), before=first, name=f"{source.name}_q")
    return editor.call(ops[1], (quantize, *settings, *more), after=quantize, name=f"{source.name}_dq")
