"""Kernels for Armv7-M without SIMD (Cortex-M3): 2x4 register tiles in assembly, short rescale."""

import numpy as np

from edgepress.exporters.c import graph as g
from edgepress.exporters.c import portable, scalar
from edgepress.exporters.c.arithmetic import Rounding
from edgepress.exporters.c.calls import Call, Constant, In, Layer, Out, Overlap, Scratch, first_reads, pixel_lead
from edgepress.exporters.c.dsp import CHANNEL_ARRAYS, Channels, channels_for, padded
from edgepress.exporters.c.graph import Array

PIXELS = 4


def conv(graph: g.Graph, op: g.Conv, rounding: Rounding) -> Layer | None:
    """Any ungrouped convolution whose channels fit the short rescale."""
    if op.groups != 1:
        return scalar.depthwise(graph, op)
    x, y = graph.tensor(op.inputs[0]), graph.tensor(op.output)
    channels = channels_for(graph, op, rounding)
    if channels is None:
        return scalar.conv(graph, op, rounding)
    weight = padded(padded(channels.weight, 4, axis=1), 2)
    fields = {name: value for name, value in portable.conv_fields(graph, op).items() if name not in CHANNEL_ARRAYS}
    arguments = (In(x.name), Out(y.name), Scratch("int8_t"))
    call = Call("ep_conv_thumb2", "ep_conv_thumb2.h", arguments, "ep_conv", fields)
    scratch = PIXELS * weight.shape[1] + PIXELS * len(weight)
    lead = pixel_lead(first_reads(op, x.shape, y.shape), y.shape[3], PIXELS, reads_before_writes=True)
    stream = Constant("weight", "int8_t", _stream(channels, weight, rounding))
    overlaps, defines = {x.name: Overlap(lead)}, (f"EP_TILE_PIXELS {PIXELS}",)
    return Layer(op, (call,), (stream,), scratch, overlaps, "conv 2x4 thumb2", defines=defines)


def _stream(channels: Channels, weight: Array, rounding: Rounding) -> Array:
    """What `ep_thumb2_channels` reads, in order: see ep_conv_thumb2.h."""
    bias, multiplier, shift = (np.asarray(c.values).reshape(-1, 2) for c in channels.constants(2))
    shift = shift if rounding == "double" else shift - 1
    after = np.stack([multiplier[:, 0], shift[:, 0] + 256 * shift[:, 1], multiplier[:, 1]], axis=1)
    pairs = scalar.pairs(weight).astype("i1").reshape(len(bias), -1)
    parts = [np.ascontiguousarray(bias, "<i4").view("i1"), pairs, np.ascontiguousarray(after, "<i4").view("i1")]
    return np.concatenate(parts, axis=1)
