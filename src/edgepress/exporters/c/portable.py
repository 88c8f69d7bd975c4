"""Lowering every operator to the portable C99 kernels: correct everywhere, the definition for the optimised ones."""

from collections.abc import Callable

import numpy as np

from edgepress.errors import UserError
from edgepress.exporters.c import graph as g
from edgepress.exporters.c import portable_sequences, portable_sums
from edgepress.exporters.c.calls import (
    Call,
    Constant,
    Field,
    In,
    Layer,
    Out,
    Overlap,
    Ref,
    Scratch,
    first_reads,
    pixel_lead,
)
from edgepress.exporters.c.graph import Array
from edgepress.exporters.c.portable_parts import folded, single, spread

ADD_TABLES = 2 * 256 * 4
AXES = 5  # of ep_move


def lower(graph: g.Graph, op: g.Op) -> Layer:
    """The portable form of one operator."""
    return _RULES[type(op)](graph, op)


def folded_bias(graph: g.Graph, op: g.Conv | g.Dense) -> Array:
    """The bias of a layer with what its input's zero point contributes. Refuses sums that int32 cannot hold."""
    x, weight, bias = (graph.tensor(name) for name in op.inputs)
    return folded(op.name, graph.constant(weight.name), graph.constant(bias.name), x.zero_point)


def channel_constants(graph: g.Graph, op: g.Conv | g.Dense) -> tuple[Constant, Constant, Constant]:
    """bias, multiplier and right shift of each output channel."""
    bias = folded_bias(graph, op)
    multiplier, shift = spread(op.rescale, len(bias))
    return (
        Constant("bias", "int32_t", bias),
        Constant("multiplier", "int32_t", multiplier),
        Constant("shift", "int8_t", shift),
    )


CHANNEL_REFS: dict[str, Ref] = {name: Ref(name) for name in ("weight", "bias", "multiplier", "shift")}


def conv_fields(graph: g.Graph, op: g.Conv | g.ConvTranspose) -> dict[str, Field]:
    """The `ep_conv` struct of a layer."""
    x, weight, y = graph.tensor(op.inputs[0]), graph.tensor(op.inputs[1]), graph.tensor(op.output)
    dilation = op.dilation if isinstance(op, g.Conv) else (1, 1)
    names = [f"{side}_{axis}" for side in ("in", "out") for axis in "hwc"]
    names += [f"{what}_{axis}" for what in ("kernel", "stride", "dilation") for axis in "hw"]
    names += ["pad_top", "pad_left", "groups", "in_zero", "out_zero", "low", "high"]
    groups = op.groups if isinstance(op, g.Conv) else 1
    values = (*x.shape[1:], *y.shape[1:], *weight.shape[1:3], *op.stride, *dilation, *op.pads[:2], groups)
    return {**CHANNEL_REFS, **dict(zip(names, (*values, x.zero_point, y.zero_point, *op.clamp), strict=True))}


def _conv(graph: g.Graph, op: g.Conv) -> Layer:
    x, weight, y = graph.tensor(op.inputs[0]), graph.tensor(op.inputs[1]), graph.tensor(op.output)
    constants = (Constant("weight", "int8_t", graph.constant(weight.name)), *channel_constants(graph, op))
    call = Call("ep_conv_ref", "ep_conv_ref.h", (In(x.name), Out(y.name)), "ep_conv", conv_fields(graph, op))
    lead = pixel_lead(first_reads(op, x.shape, y.shape), y.shape[3], 1, reads_before_writes=False)
    return Layer(op, (call,), constants, overlaps={x.name: Overlap(lead)}, kernel="conv, plain loops")


def _conv_transpose(graph: g.Graph, op: g.ConvTranspose) -> Layer:
    x, weight, y = graph.tensor(op.inputs[0]), graph.tensor(op.inputs[1]), graph.tensor(op.output)
    multiplier, shift = spread(op.rescale, y.shape[3])
    constants = (
        Constant("weight", "int8_t", graph.constant(weight.name)),
        Constant("bias", "int32_t", graph.constant(op.inputs[2])),
        Constant("multiplier", "int32_t", multiplier),
        Constant("shift", "int8_t", shift),
    )
    arguments = (In(x.name), Out(y.name))
    call = Call("ep_conv_transpose_ref", "ep_conv_transpose_ref.h", arguments, "ep_conv", conv_fields(graph, op))
    return Layer(op, (call,), constants, kernel="transposed conv, plain loops")


def dense_fields(graph: g.Graph, op: g.Dense) -> dict[str, Field]:
    x, weight, y = graph.tensor(op.inputs[0]), graph.tensor(op.inputs[1]), graph.tensor(op.output)
    out_c, in_c = weight.shape
    low, high = op.clamp
    sizes = {"rows": x.size // in_c, "in_c": in_c, "out_c": out_c}
    return {**CHANNEL_REFS, **sizes, "out_zero": y.zero_point, "low": low, "high": high}


def _dense(graph: g.Graph, op: g.Dense) -> Layer:
    constants = (Constant("weight", "int8_t", graph.constant(op.inputs[1])), *channel_constants(graph, op))
    arguments = (In(op.inputs[0]), Out(op.output))
    call = Call("ep_dense_ref", "ep_dense_ref.h", arguments, "ep_dense", dense_fields(graph, op))
    return Layer(op, (call,), constants, kernel="dense, plain loops")


def _matmul(graph: g.Graph, op: g.MatMul) -> Layer:
    a, b, y = (graph.tensor(name) for name in (*op.inputs, op.output))
    m, k, n = a.shape[-2], a.shape[-1], y.shape[-1]
    steps = (1, k) if op.transpose_b else (n, 1)
    fields = {"batch": y.size // (m * n), "m": m, "k": k, "n": n, "b_step_k": steps[0], "b_step_n": steps[1]}
    zeros = {"a_zero": a.zero_point, "b_zero": b.zero_point, "out_zero": y.zero_point}
    arguments = (In(a.name), In(b.name), Out(y.name))
    call = Call("ep_matmul_ref", "ep_matmul_ref.h", arguments, "ep_matmul", {**fields, **zeros, **single(op.rescale)})
    return Layer(op, (call,), kernel="matmul, plain loops")


def _arithmetic(graph: g.Graph, op: g.Arithmetic) -> Layer:
    a, b, y = (graph.tensor(name) for name in (*op.inputs, op.output))
    low, high = op.clamp
    fields = {"size": y.size, "repeat": b.size, "a_zero": a.zero_point, "b_zero": b.zero_point}
    fields |= {"out_zero": y.zero_point, "low": low, "high": high, **single(op.output_rescale)}
    constants = () if b.data is None else (Constant("operand", "int8_t", b.data),)
    operand = In(b.name) if b.data is None else Ref("operand")
    arguments = (In(a.name), operand, Out(y.name))
    overlaps = {name: Overlap(0) for name in graph.activations(op) if graph.tensor(name).size == y.size}
    if op.kind == "mul":
        call = Call("ep_mul_ref", "ep_mul.h", arguments, "ep_mul", dict(fields))
        return Layer(op, (call,), constants, overlaps=overlaps, kernel="mul")
    fields |= {**single(op.left, "a_"), **single(op.right, "b_"), "left_shift": op.left_shift}
    fields |= {"a_sign": -1 if op.kind == "rsub" else 1, "b_sign": -1 if op.kind == "sub" else 1}
    call = Call("ep_add_ref", "ep_add.h", (*arguments, Scratch("int32_t")), "ep_add", dict(fields))
    return Layer(op, (call,), constants, ADD_TABLES, overlaps, kernel="add by tables")


def _pool(graph: g.Graph, op: g.Pool) -> Layer:
    x, y = graph.tensor(op.inputs[0]), graph.tensor(op.output)
    divisor = op.kernel[0] * op.kernel[1] if op.count_padding else 0
    names = "in_h in_w channels out_h out_w kernel_h kernel_w stride_h stride_w pad_top pad_left zero divisor low high"
    values = (*x.shape[1:], *y.shape[1:3], *op.kernel, *op.stride, *op.pads[:2], x.zero_point, divisor, *op.clamp)
    fields = dict(zip(names.split(), values, strict=True))
    call = Call(f"ep_pool_{op.kind}", "ep_pool.h", (In(x.name), Out(y.name)), "ep_pool", dict(fields))
    lead = pixel_lead(first_reads(op, x.shape, y.shape), y.shape[3], 1, reads_before_writes=False)
    return Layer(op, (call,), overlaps={x.name: Overlap(lead)}, kernel=f"{op.kind} pool")


def _mean(graph: g.Graph, op: g.Mean) -> Layer:
    x, y = graph.tensor(op.inputs[0]), graph.tensor(op.output)
    fields = {"rows": x.size // x.shape[-1], "channels": x.shape[-1], "zero": x.zero_point, "out_zero": y.zero_point}
    call = Call("ep_mean_ref", "ep_mean.h", (In(x.name), Out(y.name)), "ep_mean", {**fields, **single(op.rescale)})
    return Layer(op, (call,), kernel="mean")


def _lookup(graph: g.Graph, op: g.Lookup) -> Layer:
    size = graph.tensor(op.output).size
    arguments = (Ref("table"), In(op.inputs[0]), Out(op.output), size)
    table = Constant("table", "int8_t", np.asarray(op.table))
    call = Call("ep_lookup", "ep_lookup.h", arguments)
    return Layer(op, (call,), (table,), overlaps={op.inputs[0]: Overlap(0)}, kernel=f"{op.function} by table")


def _softmax(graph: g.Graph, op: g.Softmax) -> Layer:
    y = graph.tensor(op.output)
    fields = {"rows": y.size // y.shape[-1], "length": y.shape[-1], **portable_sequences.exp_fields(op)}
    call = Call("ep_softmax_ref", "ep_softmax.h", (In(op.inputs[0]), Out(op.output)), "ep_softmax", fields)
    return Layer(op, (call,), overlaps={op.inputs[0]: Overlap(0)}, kernel="softmax")


def _reshape(graph: g.Graph, op: g.Reshape) -> Layer:
    return Layer(op, (), overlaps={op.inputs[0]: Overlap(0)}, kernel="alias")


def _strides(shape: tuple[int, ...]) -> list[int]:
    return [int(np.prod(shape[i + 1 :], dtype=np.int64)) for i in range(len(shape))]


def _move(
    op: g.Op, x: In | Ref, counts: tuple[int, ...], steps: list[int], to: list[int], *, source: int = 0, target: int = 0
) -> Call:
    """An `ep_move` of `counts` elements per axis; leading axes are filled up with ones."""
    axes = _merged([(c, f, t) for c, f, t in zip(counts, steps, to, strict=True) if c != 1])
    axes = [(1, 0, 0)] * (AXES - len(axes)) + axes
    if len(axes) > AXES:
        raise UserError(
            f"{op.name}: too many axes to move", found=f"{len(axes)} axes above 1", expected=f"up to {AXES}"
        )
    columns = [tuple(column) for column in zip(*axes, strict=True)]
    fields: dict[str, Field] = dict(zip(("count", "from", "to"), columns, strict=True))
    fields |= {"source": source, "target": target}
    return Call("ep_move_run", "ep_move.h", (x, Out(op.output)), "ep_move", fields)


def _merged(axes: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """(count, step, step) per axis, neighbours joined where one continues the other on both sides."""
    joined: list[tuple[int, int, int]] = []
    for count, step, to in axes:
        if joined and joined[-1][1:] == (count * step, count * to):
            count *= joined.pop()[0]
        joined.append((count, step, to))
    return joined


def _transpose(graph: g.Graph, op: g.Transpose) -> Layer:
    x, y = graph.tensor(op.inputs[0]), graph.tensor(op.output)
    steps = _strides(x.shape)
    call = _move(op, In(x.name), y.shape, [steps[axis] for axis in op.perm], _strides(y.shape))
    return Layer(op, (call,), kernel="move")


def _slice(graph: g.Graph, op: g.Slice) -> Layer:
    if g.view_offset(graph, op) is not None:
        return Layer(op, (), overlaps={op.inputs[0]: Overlap(0)}, kernel="alias")
    x, y = graph.tensor(op.inputs[0]), graph.tensor(op.output)
    steps = _strides(x.shape)
    source = sum(s * k for s, k in zip(op.start, steps, strict=True))
    scaled = [s * k for s, k in zip(op.step, steps, strict=True)]
    return Layer(op, (_move(op, In(x.name), y.shape, scaled, _strides(y.shape), source=source),), kernel="move")


def _concat(graph: g.Graph, op: g.Concat) -> Layer:
    to = _strides(graph.tensor(op.output).shape)
    calls, constants, at = [], [], 0
    for position, name in enumerate(op.inputs):
        part = graph.tensor(name)
        source: In | Ref = In(name)
        if part.data is not None:
            constants.append(Constant(f"part{position}", "int8_t", part.data))
            source = Ref(constants[-1].name)
        calls.append(_move(op, source, part.shape, _strides(part.shape), to, target=at * to[op.axis]))
        at += part.shape[op.axis]
    return Layer(op, tuple(calls), tuple(constants), kernel="move")


def _pad(graph: g.Graph, op: g.Pad) -> Layer:
    x, y = graph.tensor(op.inputs[0]), graph.tensor(op.output)
    to = _strides(y.shape)
    target = sum(before * k for (before, _), k in zip(op.pads, to, strict=True))
    fill = Call("ep_fill", "ep_fill.h", (Out(y.name), op.value, y.size))
    return Layer(
        op, (fill, _move(op, In(x.name), x.shape, _strides(x.shape), to, target=target)), kernel="fill and move"
    )


def _resize(graph: g.Graph, op: g.Resize) -> Layer:
    x, y = graph.tensor(op.inputs[0]), graph.tensor(op.output)
    fields: dict[str, Field] = {"rows": Ref("rows"), "columns": Ref("columns")}
    fields |= {"in_w": x.shape[2], "out_h": y.shape[1], "out_w": y.shape[2], "channels": y.shape[3]}
    call = Call("ep_resize_nearest", "ep_resize.h", (In(x.name), Out(y.name)), "ep_resize", fields)
    picks = (("rows", op.rows), ("columns", op.columns))
    return Layer(op, (call,), tuple(Constant(name, "int16_t", np.asarray(v)) for name, v in picks), kernel="nearest")


_RULES: dict[type[g.Op], Callable[..., Layer]] = {
    g.Conv: _conv,
    g.ConvTranspose: _conv_transpose,
    g.Dense: _dense,
    g.MatMul: _matmul,
    g.Arithmetic: _arithmetic,
    g.Pool: _pool,
    g.Mean: _mean,
    g.Lookup: _lookup,
    g.Softmax: _softmax,
    g.LayerNorm: portable_sequences.layer_norm,
    g.Attention: portable_sequences.attention,
    g.Recurrent: portable_sequences.recurrent,
    g.Embedding: portable_sequences.embedding,
    g.Contract: portable_sums.contract,
    g.Divide: portable_sums.divide,
    g.Reshape: _reshape,
    g.Transpose: _transpose,
    g.Concat: _concat,
    g.Slice: _slice,
    g.Pad: _pad,
    g.Resize: _resize,
}
