"""Kernels for cores with the DSP extension (Cortex-M4, M7, M33): packed weights, SMLAD tiles.

Each function returns a layer, or None where its conditions do not hold; the portable kernel then stands in.
"""

from dataclasses import dataclass

import numpy as np

from edgepress.exporters.c import arithmetic, portable, portable_parts
from edgepress.exporters.c import graph as g
from edgepress.exporters.c.arithmetic import Rounding
from edgepress.exporters.c.calls import Call, Constant, Field, In, Layer, Out, Overlap, Scratch, first_reads, pixel_lead
from edgepress.exporters.c.graph import Array

PIXELS = 4
OVERREAD = 4  # rows are copied in whole words: up to three bytes too much
SXTB16_ORDER = [0, 2, 1, 3]  # SXTB16 gives bytes 0 and 2, with ROR #8 bytes 1 and 3


@dataclass(frozen=True, eq=False)
class Channels:
    """Weights [O, K] and per-channel constants for which `ep_dsp_rescale` holds."""

    weight: Array
    bias: Array
    multiplier: Array
    shift: Array

    def constants(self, multiple: int) -> tuple[Constant, Constant, Constant]:
        """bias, multiplier and shift, padded to a multiple with channels that give 0."""
        shift = padded(self.shift, multiple)
        return (
            Constant("bias", "int32_t", padded(self.bias, multiple)),
            Constant("multiplier", "int32_t", padded(self.multiplier, multiple)),
            Constant("shift", "int8_t", np.where(shift == 0, 2, shift)),
        )


def channels_for(graph: g.Graph, op: g.Conv | g.Dense, rounding: Rounding) -> Channels | None:
    """The layer's channels if all can use the short rescale: right shift 1 or more (single rounding: 2), |sum| < 2**30.

    A channel whose weights are as good as zero has a huge bias instead, in its own tiny scale. If its output is the
    same over the whole reach of the sum, the constant takes its place: weights 0, and y = 4 y / 4.
    """
    weight = graph.constant(op.inputs[1]).astype(np.int64)
    weight = weight.reshape(weight.shape[0], -1)
    bias = portable.folded_bias(graph, op)
    multiplier, shift = portable_parts.spread(op.rescale, len(bias))
    reach = 128 * np.abs(weight).sum(axis=1)
    large = np.abs(bias) + reach >= 2**30
    low, high = (arithmetic.multiply(bias + sign * reach, multiplier, -shift, rounding) for sign in (-1, 1))
    settled = large & (low == high) & (np.abs(low) < 2**20)
    lowest = shift.min(initial=31, where=~settled)
    if (large & ~settled).any() or lowest < (1 if rounding == "double" else 2):
        return None
    quarter = 1 if rounding == "double" else 2  # y = x * 2**30 * 2**-(31 + shift)
    return Channels(
        np.where(settled[:, None], 0, weight),
        np.where(settled, low << (quarter + 1), bias),
        np.where(settled, 1 << 30, multiplier),
        np.where(settled, quarter, shift),
    )


def pack_pairs(weight: Array) -> Array | None:
    """[even channels, K] with K a multiple of 4 -> int16 [channels/2, K] of 256 b + a, inputs in SXTB16 order.

    None if a value leaves int16 or the sum of channel b could leave 24 bits (it is found as (t - s) / 256).
    """
    ordered = weight.astype(np.int64).reshape(weight.shape[0], -1, 4)[:, :, SXTB16_ORDER].reshape(weight.shape)
    pairs = 256 * ordered[1::2] + ordered[0::2]
    fits = pairs.min(initial=0) >= -(2**15) and pairs.max(initial=0) < 2**15
    narrow = 128 * np.abs(ordered[1::2]).sum(axis=1).max(initial=0) < 2**23
    return np.ascontiguousarray(pairs, "<i2") if fits and narrow else None


def padded(values: Array, multiple: int, axis: int = 0) -> Array:
    """`values` with zeros appended along an axis, up to a multiple."""
    widths = [(0, 0)] * values.ndim
    widths[axis] = (0, -values.shape[axis] % multiple)
    return np.pad(values, widths)


def conv(graph: g.Graph, op: g.Conv, rounding: Rounding) -> Layer | None:
    """Any ungrouped convolution."""
    if op.groups != 1:
        return depthwise(graph, op, rounding)
    channels = channels_for(graph, op, rounding)
    packed = pack_pairs(padded(padded(channels.weight, 4, axis=1), 2)) if channels else None
    if channels is None or packed is None:
        return None
    return _tiled(graph, op, packed.shape[1], _stream(channels, packed, rounding))


def _tiled(graph: g.Graph, op: g.Conv, inputs: int, stream: Array, *, four_bits: bool = False) -> Layer:
    """The layer of a weight stream; inputs: per output, padded to a multiple of four."""
    x, weight, y = graph.tensor(op.inputs[0]), graph.constant(op.inputs[1]), graph.tensor(op.output)
    kind = _gather(op, x.shape[3], weight.shape[1:3])
    even = -(-y.shape[3] // 2) * 2
    scratch = 2 * PIXELS * inputs + (inputs + OVERREAD if kind == "bytes" else 0)
    if y.size // y.shape[3] % PIXELS or even != y.shape[3]:
        scratch += PIXELS * even  # the last pixels, and odd channels, go by way of scratch
    fields = {name: value for name, value in portable.conv_fields(graph, op).items() if name not in CHANNEL_ARRAYS}
    fields |= {"four_bit": 1} if four_bits else {}
    arguments = (In(x.name), Out(y.name), Scratch("uint32_t"))
    call = Call(f"ep_conv_dsp_{kind}", f"ep_conv_dsp_{kind}.h", arguments, "ep_conv", fields)
    lead = pixel_lead(first_reads(op, x.shape, y.shape), y.shape[3], PIXELS, reads_before_writes=True)
    name = f"conv 2x4 smlad, {kind}" + ", 4-bit weights" * four_bits
    defines = ("EP_FOUR_BIT 1",) if four_bits else ()
    constants = (Constant("weight", "int8_t", stream),)
    overlaps = {x.name: Overlap(lead)}
    return Layer(op, (call,), constants, scratch, overlaps, name, defines=defines, overread=kind == "bytes")


def conv_four_bit(graph: g.Graph, op: g.Conv, rounding: Rounding) -> Layer | None:
    """An ungrouped convolution with weights of -8..7, two in a byte."""
    channels = channels_for(graph, op, rounding)
    if channels is None or op.groups != 1 or not _sixteenfold_fits(channels):
        return None
    weight = padded(padded(channels.weight, 4, axis=1), 2)
    return _tiled(graph, op, weight.shape[1], _stream_four_bit(channels, weight, rounding), four_bits=True)


def _sixteenfold_fits(channels: Channels) -> bool:
    reach = np.abs(channels.bias) + 128 * np.abs(channels.weight).sum(axis=1)
    return bool(reach.max(initial=0) < 2**27)


def _stream_four_bit(channels: Channels, weight: Array, rounding: Rounding) -> Array:
    """What `ep_dsp_channels4` reads, in order: see ep_conv_dsp4.h."""
    bias, multiplier, shift = (np.asarray(c.values).reshape(-1, 2) for c in channels.constants(2))
    shift = shift if rounding == "double" else shift - 1
    # [pairs, 2 channels, blocks of 4 inputs] -> inputs 0 2 | 1 3, each as a b a b
    blocks = weight.reshape(len(bias), 2, -1, 4)[..., SXTB16_ORDER].reshape(len(bias), 2, -1, 2, 2)
    halves = blocks.transpose(0, 2, 3, 4, 1).reshape(len(bias), -1, 2, 4) & 15
    words = (halves[:, :, 0] | halves[:, :, 1] << 4).astype(np.uint8).view("i1").reshape(len(bias), -1)
    after = np.stack([multiplier[:, 0], shift[:, 0] + 256 * shift[:, 1], multiplier[:, 1]], axis=1)
    before = np.ascontiguousarray(16 * bias, "<i4").view("i1")
    return np.concatenate([before, words, np.ascontiguousarray(after, "<i4").view("i1")], axis=1)


CHANNEL_ARRAYS = ("bias", "multiplier", "shift")  # part of the weight stream


def _stream(channels: Channels, packed: Array, rounding: Rounding) -> Array:
    """What `ep_dsp_channels` reads, in order: per pair bias a, weights, multiplier a, shifts, bias b, multiplier b."""
    bias, multiplier, shift = (np.asarray(c.values).reshape(-1, 2) for c in channels.constants(2))
    doubled = 2 if rounding == "double" else 1
    shift = shift if rounding == "double" else shift - 1
    after = np.stack(
        [multiplier[:, 0], shift[:, 0] + 256 * shift[:, 1], doubled * bias[:, 1], multiplier[:, 1]], axis=1
    )
    parts = [bias[:, :1].astype("<i4").view("i1"), packed.view("i1"), after.astype("<i4").view("i1")]
    return np.concatenate(parts, axis=1)


def _gather(op: g.Conv, channels: int, kernel: tuple[int, ...]) -> str:
    if channels % 4 or op.dilation[1] != 1:
        return "bytes"
    simple = kernel == (1, 1) and op.stride == (1, 1) and op.pads == (0, 0, 0, 0)
    return "point" if simple else "image"


def dense(graph: g.Graph, op: g.Dense, rounding: Rounding) -> Layer | None:
    """A matrix times one row, or times several as a 1x1 convolution."""
    x, weight, y = graph.tensor(op.inputs[0]), graph.constant(op.inputs[1]), graph.tensor(op.output)
    channels = channels_for(graph, op, rounding)
    packed = pack_pairs(padded(channels.weight, 4)) if channels and weight.shape[1] % 4 == 0 else None
    if channels is None or packed is None:
        return None
    # [pairs of channels, 4-blocks of inputs, 2 words] -> two pairs side by side in every block
    words = packed.reshape(packed.shape[0] // 2, 2, -1, 4).transpose(0, 2, 1, 3)
    constants = (Constant("weight", "int8_t", np.ascontiguousarray(words).view("i1")), *channels.constants(4))
    if x.size != weight.shape[1]:
        return None
    arguments = (In(x.name), Out(y.name))
    call = Call("ep_dense_dsp", "ep_dense_dsp.h", arguments, "ep_dense", portable.dense_fields(graph, op))
    return Layer(op, (call,), constants, kernel="dense 4x1 smlad")


def add(graph: g.Graph, op: g.Arithmetic, rounding: Rounding) -> Layer | None:
    """Addition and subtraction without broadcast."""
    layer = portable.lower(graph, op)
    shift = -op.output_rescale.shift[0]
    whole = all(graph.tensor(name).size == graph.tensor(op.output).size for name in op.inputs)
    # Each table entry stays below 2**28: operands are at most 255 << 20, and their factors at most 1.
    if op.kind == "mul" or not whole or shift < (1 if rounding == "double" else 2) or _above_one(op):
        return None
    call = Call("ep_add_dsp", "ep_add_dsp.h", layer.calls[0].arguments, "ep_add", layer.calls[0].fields)
    return Layer(op, (call,), layer.constants, layer.scratch, layer.overlaps, "add by tables, dsp")


def _above_one(op: g.Arithmetic) -> bool:
    return max(op.left.shift[0], op.right.shift[0]) > 1 or op.left_shift > 20


def is_depthwise3x3(graph: g.Graph, op: g.Op) -> bool:
    """A depthwise convolution that `ep_depthwise_dsp` takes, scales aside."""
    if not isinstance(op, g.Conv):
        return False
    x, weight, y = graph.tensor(op.inputs[0]), graph.tensor(op.inputs[1]), graph.tensor(op.output)
    one_to_one = op.groups == x.shape[3] == y.shape[3] and x.shape[3] % 2 == 0
    square = weight.shape[1:3] == (3, 3) and op.dilation == (1, 1) and op.stride in ((1, 1), (2, 2))
    return one_to_one and square and max(op.pads[:2]) <= 1 and _pitch(graph, op) <= LDRD_REACH // 2


LDRD_REACH = 1020
STRIP_BYTES = 4096


def _pitch(graph: g.Graph, op: g.Conv) -> int:
    """Bytes of a plane row: what the padded input takes, and what the last pair of outputs reads."""
    x, y = graph.tensor(op.inputs[0]), graph.tensor(op.output)
    even = y.shape[2] + y.shape[2] % 2
    columns = max(x.shape[2] + op.pads[1], even + 2 if op.stride[1] == 1 else 2 * even + 2)
    return 2 * (columns + columns % 2)


def depthwise(graph: g.Graph, op: g.Conv, rounding: Rounding) -> Layer | None:
    """Depthwise 3x3, planes and weights in registers."""
    if not is_depthwise3x3(graph, op):
        return None
    x, y = graph.tensor(op.inputs[0]), graph.tensor(op.output)
    channels = channels_for(graph, op, rounding)
    if channels is None:
        return None
    # One pitch for all such layers of the model, so that they share one copy of the code.
    pitch = max(
        _pitch(graph, other) for other in graph.ops if isinstance(other, g.Conv) and is_depthwise3x3(graph, other)
    )
    strip, rows = _strip(y.shape[1], op.stride[0], pitch)
    scratch = 2 * rows * pitch + 4 * (y.shape[2] + y.shape[2] % 2)
    fields = portable.conv_fields(graph, op)
    nested: dict[str, Field] = {f"conv.{name}": value for name, value in fields.items()}
    arguments = (In(x.name), Out(y.name), Scratch("uint32_t"))
    call = Call("ep_depthwise_dsp", "ep_depthwise_dsp.h", arguments, "ep_depthwise", {**nested, "strip": strip})
    constants = (Constant("weight", "int8_t", channels.weight), *channels.constants(1))
    shrinks = y.shape[1] <= x.shape[1] and y.shape[2] <= x.shape[2]
    overlaps = {x.name: Overlap(0, x.shape[3])} if shrinks else {}
    return Layer(
        op,
        (call,),
        constants,
        scratch,
        overlaps,
        "depthwise 3x3 smlad",
        defines=(f"EP_PLANE_PITCH {pitch}", f"EP_PLANE_PITCH_2 {2 * pitch}"),
    )


def _strip(out_rows: int, stride: int, pitch: int) -> tuple[int, int]:
    """(output rows per strip, plane rows) so that both planes keep to STRIP_BYTES where there are that many rows."""
    keep = 3 - stride
    strip = max(1, (STRIP_BYTES // (2 * pitch) - keep) // stride)
    strip = min(out_rows, -(-out_rows // -(-out_rows // strip)))
    return strip, strip * stride + keep
