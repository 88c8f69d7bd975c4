"""Kernels for cores without SIMD (Cortex-M0, M3, RV32): register tiles in portable C."""

import numpy as np

from edgepress.exporters.c import graph as g
from edgepress.exporters.c import portable
from edgepress.exporters.c.arithmetic import Rounding
from edgepress.exporters.c.calls import Call, Constant, In, Layer, Out, Overlap, Scratch, first_reads, pixel_lead
from edgepress.exporters.c.dsp import padded
from edgepress.exporters.c.graph import Array


def pairs(weight: Array) -> Array:
    """[O, K] -> [O/2, K, 2], an odd last channel filled up with zeros."""
    flat = padded(weight.reshape(weight.shape[0], -1), 2)
    return np.ascontiguousarray(flat.reshape(flat.shape[0] // 2, 2, -1).transpose(0, 2, 1))


def fits_four_bits(weight: Array) -> bool:
    return bool(weight.size and weight.min() >= -8 and weight.max() <= 7)


def nibbles(weight: Array) -> Array:
    """[O, K] of -8..7 -> [O/2, K]: the even channel in the low half of a byte, the odd one in the high half."""
    both = pairs(weight).astype(np.int16)
    return ((both[..., 0] & 15) | (both[..., 1] & 15) << 4).astype(np.uint8).view(np.int8)


def _constants(graph: g.Graph, op: g.Conv | g.Dense, four_bits: bool) -> tuple[Constant, ...]:
    rest = portable.channel_constants(graph, op)
    filled = (Constant(c.name, c.ctype, padded(c.values, 2)) for c in rest)
    pack = nibbles if four_bits else pairs
    return (Constant("weight", "int8_t", pack(graph.constant(op.inputs[1]))), *filled)


def conv(graph: g.Graph, op: g.Conv, rounding: Rounding, pixels: int = 4, *, four_bits: bool = False) -> Layer | None:
    """Any ungrouped convolution; depthwise 3x3."""
    x, weight, y = graph.tensor(op.inputs[0]), graph.tensor(op.inputs[1]), graph.tensor(op.output)
    if op.groups != 1:
        return depthwise(graph, op)
    arguments = (In(x.name), Out(y.name), Scratch("int8_t"))
    name = "ep_conv_scalar4" if four_bits else "ep_conv_scalar"
    call = Call(name, "ep_conv_scalar.h", arguments, "ep_conv", portable.conv_fields(graph, op))
    scratch = pixels * int(np.prod(weight.shape[1:]))
    lead = pixel_lead(first_reads(op, x.shape, y.shape), y.shape[3], pixels, reads_before_writes=True)
    overlaps = {x.name: Overlap(lead)}
    defines = (f"EP_TILE_PIXELS {pixels}",)
    kernel = f"conv 2x{pixels} scalar" + ", 4-bit weights" * four_bits
    return Layer(op, (call,), _constants(graph, op, four_bits), scratch, overlaps, kernel, defines=defines)


def conv_narrow(graph: g.Graph, op: g.Conv, rounding: Rounding) -> Layer | None:
    """As `conv`, two pixels at a time: for eight usable registers."""
    return conv(graph, op, rounding, pixels=2)


def depthwise(graph: g.Graph, op: g.Conv) -> Layer | None:
    """Depthwise 3x3 without dilation."""
    x, weight, y = graph.tensor(op.inputs[0]), graph.tensor(op.inputs[1]), graph.tensor(op.output)
    one_to_one = op.groups == x.shape[3] == y.shape[3]
    if not one_to_one or weight.shape[1:3] != (3, 3) or op.dilation != (1, 1):
        return None
    sizes = [
        max((o - 1) * s + 3, n + before)
        for o, s, n, before in zip(y.shape[1:3], op.stride, x.shape[1:3], op.pads[:2], strict=True)
    ]
    arguments = (In(x.name), Out(y.name), Scratch("int8_t"))
    call = Call("ep_depthwise_scalar", "ep_depthwise_scalar.h", arguments, "ep_conv", portable.conv_fields(graph, op))
    constants = (Constant("weight", "int8_t", graph.constant(op.inputs[1])), *portable.channel_constants(graph, op))
    shrinks = y.shape[1] <= x.shape[1] and y.shape[2] <= x.shape[2]
    overlaps = {x.name: Overlap(0, x.shape[3])} if shrinks else {}
    return Layer(op, (call,), constants, sizes[0] * sizes[1], overlaps, "depthwise 3x3 scalar")


def packed(graph: g.Graph, op: g.Op, isa: str, rounding: Rounding) -> Layer | None:
    """A layer whose weights are all of four bits, with two of them in a byte; None for other layers."""
    if not isinstance(op, g.Conv | g.Dense) or not fits_four_bits(graph.constant(op.inputs[1])):
        return None
    if isinstance(op, g.Dense):
        return dense(graph, op, rounding, four_bits=True)
    return conv(graph, op, rounding, 2 if isa == "narrow" else 4, four_bits=True) if op.groups == 1 else None


def dense(graph: g.Graph, op: g.Dense, rounding: Rounding, *, four_bits: bool = False) -> Layer | None:
    """A matrix times one row."""
    x, y = graph.tensor(op.inputs[0]), graph.tensor(op.output)
    if x.size != graph.tensor(op.inputs[1]).shape[1]:
        return None
    arguments, fields = (In(x.name), Out(y.name)), portable.dense_fields(graph, op)
    name = "ep_dense_scalar4" if four_bits else "ep_dense_scalar"
    call = Call(name, "ep_dense_scalar.h", arguments, "ep_dense", fields)
    kernel = "dense 2x1 scalar" + ", 4-bit weights" * four_bits
    return Layer(op, (call,), _constants(graph, op, four_bits), kernel=kernel)
