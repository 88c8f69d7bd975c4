"""Kernels for Helium (Cortex-M55): 16 products per instruction, four rescales at once."""

import numpy as np

from edgepress.exporters.c import graph as g
from edgepress.exporters.c import portable
from edgepress.exporters.c.arithmetic import Rounding
from edgepress.exporters.c.calls import Call, Constant, In, Layer, Out, Overlap, Scratch, first_reads, pixel_lead
from edgepress.exporters.c.dsp import channels_for, padded
from edgepress.exporters.c.graph import Array

PIXELS = 4
POINTER = 4
EVEN_THEN_ODD = [0, 2, 4, 6, 1, 3, 5, 7]  # the order of VMULLB's and VMULLT's results


def conv(graph: g.Graph, op: g.Conv, rounding: Rounding) -> Layer | None:
    """Ungrouped convolutions, and depthwise ones with one output per channel."""
    x, weight, y = graph.tensor(op.inputs[0]), graph.tensor(op.inputs[1]), graph.tensor(op.output)
    channels = channels_for(graph, op, rounding)
    if channels is None:
        return None
    if op.groups != 1:
        return depthwise(graph, op, rounding)
    simple = weight.shape[1:3] == (1, 1) and op.stride == (1, 1) and op.pads == (0, 0, 0, 0)
    function = "ep_conv_mve_point" if simple else "ep_conv_mve"
    arguments = (In(x.name), Out(y.name), Scratch("int32_t"))
    call = Call(function, "ep_conv_mve.h", arguments, "ep_conv", portable.conv_fields(graph, op))
    constants = (Constant("weight", "int8_t", channels.weight), *channels.constants(4))
    scratch = 4 * PIXELS * (-(-y.shape[3] // 4) * 4) + (0 if simple else PIXELS * channels.weight.shape[1])
    lead = pixel_lead(first_reads(op, x.shape, y.shape), y.shape[3], PIXELS, reads_before_writes=True)
    return Layer(op, (call,), constants, scratch, {x.name: Overlap(lead)}, "conv 1x4 mve")


def depthwise(graph: g.Graph, op: g.Conv, rounding: Rounding) -> Layer | None:
    """Depthwise of any kernel size, channels in the lanes."""
    x, weight, y = graph.tensor(op.inputs[0]), graph.tensor(op.inputs[1]), graph.tensor(op.output)
    channels = channels_for(graph, op, rounding)
    if channels is None or not op.groups == x.shape[3] == y.shape[3]:
        return None
    rest = (Constant(c.name, c.ctype, _lanes(c.values)) for c in channels.constants(8))
    constants = (Constant("weight", "int8_t", np.ascontiguousarray(channels.weight.T)), *rest)
    arguments = (In(x.name), Out(y.name), Scratch("const int8_t *"))
    call = Call("ep_depthwise_mve", "ep_depthwise_mve.h", arguments, "ep_conv", portable.conv_fields(graph, op))
    scratch = POINTER * int(np.prod(weight.shape[1:3])) + x.shape[3]
    lead = pixel_lead(first_reads(op, x.shape, y.shape), y.shape[3], 1, reads_before_writes=False)
    return Layer(op, (call,), constants, scratch, {x.name: Overlap(lead)}, "depthwise mve")


def _lanes(values: Array) -> Array:
    return np.ascontiguousarray(values.reshape(-1, 8)[:, EVEN_THEN_ODD]).reshape(-1)


def dense(graph: g.Graph, op: g.Dense, rounding: Rounding) -> Layer | None:
    """A matrix times one row."""
    x, y = graph.tensor(op.inputs[0]), graph.tensor(op.output)
    channels = channels_for(graph, op, rounding)
    if channels is None or x.size != channels.weight.shape[1]:
        return None
    arguments, fields = (In(x.name), Out(y.name)), portable.dense_fields(graph, op)
    call = Call("ep_dense_mve", "ep_dense_mve.h", arguments, "ep_dense", fields)
    constants = (Constant("weight", "int8_t", padded(channels.weight, 4)), *channels.constants(4))
    return Layer(op, (call,), constants, kernel="dense 4x1 mve")


def add(graph: g.Graph, op: g.Arithmetic, rounding: Rounding) -> Layer | None:
    """Addition and subtraction without broadcast, of two activations."""
    layer = portable.lower(graph, op)
    least = 0 if rounding == "double" else 2
    shifts = [-factor.shift[0] for factor in (op.left, op.right, op.output_rescale)]
    whole = all(graph.tensor(name).size == graph.tensor(op.output).size for name in op.inputs)
    if op.kind in ("mul", "rsub") or not whole or min(shifts) < least:
        return None
    arguments = tuple(a for a in layer.calls[0].arguments if not isinstance(a, Scratch))
    call = Call("ep_add_mve", "ep_add_mve.h", arguments, "ep_add", layer.calls[0].fields)
    return Layer(op, (call,), layer.constants, 0, layer.overlaps, "add mve")
