"""Kernels for RISC-V vectors (Zve32x): output channels in the lanes, by widening multiply-add; any vector length."""

import numpy as np

from edgepress.exporters.c import graph as g
from edgepress.exporters.c import portable, scalar
from edgepress.exporters.c.arithmetic import Rounding
from edgepress.exporters.c.calls import Call, Constant, In, Layer, Out, Overlap, Scratch, first_reads, pixel_lead

PIXELS = 4


def conv(graph: g.Graph, op: g.Conv, rounding: Rounding) -> Layer | None:
    """Ungrouped convolutions, and depthwise ones with one output per channel."""
    if rounding == "single":  # asks for products of 64 bits, which Zve32x has not in its lanes
        return scalar.conv(graph, op, rounding)
    if op.groups != 1:
        return _depthwise(graph, op)
    x, weight, y = graph.tensor(op.inputs[0]), graph.tensor(op.inputs[1]), graph.tensor(op.output)
    point = weight.shape[1:3] == (1, 1) and op.stride == (1, 1) and op.pads == (0, 0, 0, 0)
    arguments = (In(x.name), Out(y.name), Scratch("int8_t"))
    function = "ep_conv_rvv_point" if point else "ep_conv_rvv"
    call = Call(function, "ep_conv_rvv.h", arguments, "ep_conv", portable.conv_fields(graph, op))
    scratch = PIXELS * int(np.prod(weight.shape[1:]))
    lead = pixel_lead(first_reads(op, x.shape, y.shape), y.shape[3], PIXELS, reads_before_writes=True)
    constants = _constants(graph, op)
    kernel = f"conv{' point' * point} rvv"
    return Layer(op, (call,), constants, scratch, {x.name: Overlap(lead)}, kernel, defines=_left_shifts(op))


def _depthwise(graph: g.Graph, op: g.Conv) -> Layer | None:
    x, y = graph.tensor(op.inputs[0]), graph.tensor(op.output)
    if not op.groups == x.shape[3] == y.shape[3]:
        return None
    arguments = (In(x.name), Out(y.name))
    call = Call("ep_depthwise_rvv", "ep_depthwise_rvv.h", arguments, "ep_conv", portable.conv_fields(graph, op))
    lead = pixel_lead(first_reads(op, x.shape, y.shape), y.shape[3], 1, reads_before_writes=False)
    constants, defines = _constants(graph, op), _left_shifts(op)
    return Layer(op, (call,), constants, 0, {x.name: Overlap(lead)}, "depthwise rvv", defines=defines)


def dense(graph: g.Graph, op: g.Dense, rounding: Rounding) -> Layer | None:
    """A matrix times one row."""
    x = graph.tensor(op.inputs[0])
    if rounding == "single" or x.size != graph.tensor(op.inputs[1]).shape[1]:
        return scalar.dense(graph, op, rounding)
    arguments, fields = (In(x.name), Out(op.output)), portable.dense_fields(graph, op)
    call = Call("ep_dense_rvv", "ep_dense_rvv.h", arguments, "ep_dense", fields)
    return Layer(op, (call,), _constants(graph, op), kernel="dense rvv", defines=_left_shifts(op))


def add(graph: g.Graph, op: g.Arithmetic, rounding: Rounding) -> Layer | None:
    """Addition and subtraction without broadcast, of two activations."""
    layer = portable.lower(graph, op)
    whole = all(graph.tensor(name).size == graph.tensor(op.output).size for name in op.inputs)
    lifts = max(factor.shift[0] for factor in (op.left, op.right, op.output_rescale)) > 0
    constant = any(graph.tensor(name).data is not None for name in op.inputs)
    if rounding == "single" or op.kind in ("mul", "rsub") or not whole or lifts or constant:
        return None
    arguments = tuple(a for a in layer.calls[0].arguments if not isinstance(a, Scratch))
    call = Call("ep_add_rvv", "ep_add_rvv.h", arguments, "ep_add", layer.calls[0].fields)
    return Layer(op, (call,), (), 0, layer.overlaps, "add rvv")


def _constants(graph: g.Graph, op: g.Conv | g.Dense) -> tuple[Constant, ...]:
    """Weights with output channels last, bias, multipliers, shifts."""
    weight = graph.constant(op.inputs[1])
    turned = np.ascontiguousarray(weight.reshape(weight.shape[0], -1).T)
    return (Constant("weight", "int8_t", turned), *portable.channel_constants(graph, op))


def _left_shifts(op: g.Conv | g.Dense) -> tuple[str, ...]:
    return ("EP_RVV_LEFT 1",) * any(shift > 0 for shift in op.rescale.shift)
