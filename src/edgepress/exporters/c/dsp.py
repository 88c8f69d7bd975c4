"""Kernels for cores with the DSP extension (Cortex-M4, M7, M33): packed weights, SMLAD tiles.

Each function returns a layer, or None where its conditions do not hold; the portable kernel then stands in.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from edgepress.exporters.c import arithmetic, lines, portable, portable_parts
from edgepress.exporters.c import graph as g
from edgepress.exporters.c.arithmetic import Rounding
from edgepress.exporters.c.calls import Call, Constant, Field, In, Layer, Out, Overlap, Scratch, first_reads, pixel_lead
from edgepress.exporters.c.graph import Array

PIXELS = 2
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
    """The layer's channels if all can use the short rescale: right shift 1 or more (single rounding: 2),
    multiplier at least 2**30, |sum| < 2**30.

    A channel whose weights are as good as zero has a huge bias instead, in its own tiny scale. Where the output is the
    same over the whole reach of the sum, the constant takes its place: weights 0, and y = 4 y / 4.
    """
    weight = graph.constant(op.inputs[1]).astype(np.int64)
    weight = weight.reshape(weight.shape[0], -1)
    bias = portable.folded_bias(graph, op)
    multiplier, shift = portable_parts.spread(op.rescale, len(bias))
    reach = 128 * np.abs(weight).sum(axis=1)
    odd = (np.abs(bias) + reach >= 2**30) | (multiplier < 2**30)
    zero, ends = graph.tensor(op.output).zero_point, (bias - reach, bias + reach)
    low, high = (
        np.clip(arithmetic.multiply(end, multiplier, -shift, rounding), op.clamp[0] - zero, op.clamp[1] - zero)
        for end in ends
    )
    ordered = (np.abs(bias) + reach) << np.maximum(-shift, 0) < 2**31  # what wraps is not
    settled = (low == high) & ordered
    lowest = shift.min(initial=31, where=~settled)
    if (odd & ~settled).any() or lowest < (1 if rounding == "double" else 2):
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
    if channels is None:
        return None
    weight = padded(_gathered(graph, op, channels.weight), 4, axis=1)
    quads = _in_quads(Channels(weight, channels.bias, channels.multiplier, channels.shift))
    packed = pack_pairs(quads.weight)
    if packed is None:
        return None
    bits = _line_bits(graph, rounding, False)
    found = _quad_lines(graph, op, quads, rounding, bits)
    stream = _stream(quads, packed, *found) if found else _plain_stream(quads, packed, rounding)
    return _tiled(graph, op, weight.shape[1], stream, plain=not found, line_bits=bits if found else 0)


def _quad_lines(
    graph: g.Graph, op: g.Conv, quads: Channels, rounding: Rounding, bits: int
) -> tuple[lines.Lines, lines.Lines] | None:
    """Lines of all channel pairs. The second of a pair sums 256 times its products."""
    wanted = _factors(graph, op, quads, rounding)
    return lines.in_pairs(wanted, bits, PAIR_SCALE) if wanted and 1 <= bits <= lines.most_bits(wanted) else None


def _factors(graph: g.Graph, op: g.Conv, channels: Channels, rounding: Rounding) -> lines.Factors | None:
    """What the lines of a layer have to meet; None where sums below zero bend it (half away from zero, no ReLU)."""
    if not _cut_off(graph, op, rounding):
        return None
    ends = [channels.weight * extreme for extreme in (-128, 127)]
    low, high = channels.bias + np.minimum(*ends).sum(axis=1), channels.bias + np.maximum(*ends).sum(axis=1)
    levels = np.arange(op.clamp[0] + 1, op.clamp[1] + 1)
    zero = graph.tensor(op.output).zero_point
    return lines.Factors(channels.multiplier, channels.shift, low, high, zero, levels, rounding)


@lru_cache(maxsize=2)
def _line_bits(graph: g.Graph, rounding: Rounding, of_planes: bool) -> int:
    """Bits behind the point for all lines of a model, as they are an immediate of the code; 0 if nothing takes any."""
    found = []
    for op in graph.ops:
        if isinstance(op, g.Conv) and (is_depthwise3x3(graph, op) if of_planes else op.groups == 1):
            channels = channels_for(graph, op, rounding)
            wanted = _factors(graph, op, channels, rounding) if channels else None
            found += [lines.most_bits(wanted)] if wanted else []
    return min((bits for bits in found if bits >= 1), default=0)


def _gathered(graph: g.Graph, op: g.Conv, weight: Array) -> Array:
    """Weights [O, K] in the order that the windows are gathered in: see ep_conv_dsp_window.h."""
    shape = graph.constant(op.inputs[1]).shape
    rows = weight.reshape(shape[0], shape[1], -1)
    whole = rows.shape[2] // 4 * 4
    return np.concatenate([part.reshape(shape[0], -1) for part in (rows[:, :, :whole], rows[:, :, whole:])], axis=1)


def _in_quads(channels: Channels) -> Channels:
    """Channels 0..3, then those up to the last: the first two quads overlap. Fewer than four are filled up."""
    count = len(channels.bias)
    order = [*range(4), *range(count % 4 or 4, count)] if count >= 4 else [*range(count), *[-1] * (4 - count)]
    real = np.asarray(order) >= 0
    return Channels(
        np.where(real[:, None], channels.weight[order], 0),
        np.where(real, channels.bias[order], 0),
        np.where(real, channels.multiplier[order], 1 << 30),
        np.where(real, channels.shift[order], 2),
    )


def _reach(channels: Channels) -> Array:
    """Per channel, a bound of |sum|."""
    return np.asarray(np.abs(channels.bias) + 128 * np.abs(channels.weight).sum(axis=1))


def _cut_off(graph: g.Graph, op: g.Conv, rounding: Rounding) -> bool:
    """Does it not matter how sums below zero are rounded?"""
    return rounding == "single" or op.clamp[0] >= graph.tensor(op.output).zero_point


def align(size: int) -> int:
    """In whole words."""
    return -(-size // 4) * 4


def _tiled(
    graph: g.Graph, op: g.Conv, inputs: int, stream: Array, *, plain: bool, line_bits: int = 0, four_bits: bool = False
) -> Layer:
    """The layer of a weight stream; inputs: per output, padded to a multiple of four."""
    x, weight, y = graph.tensor(op.inputs[0]), graph.constant(op.inputs[1]), graph.tensor(op.output)
    kind = _gather(op, x.shape[3], weight.shape[1:3])
    scratch = 2 * PIXELS * inputs
    if y.shape[3] < 4 or kind == "window":
        scratch += 4 * PIXELS  # outputs of fewer than four channels go by way of scratch
    if kind == "window":
        row = weight.shape[2] * weight.shape[3]
        scratch += align(row) + PIXELS * align(weight.shape[1] * (row % 4))
    fields = {name: value for name, value in portable.conv_fields(graph, op).items() if name not in CHANNEL_ARRAYS}
    fields |= {"four_bit": 1} if four_bits else {}
    fields |= {"plain": 1} if plain else {}
    arguments = (In(x.name), Out(y.name), Scratch("uint32_t"))
    call = Call(f"ep_conv_dsp_{kind}", f"ep_conv_dsp_{kind}.h", arguments, "ep_conv", fields)
    lead = pixel_lead(first_reads(op, x.shape, y.shape), y.shape[3], PIXELS, reads_before_writes=True)
    name = f"conv 4x2 smlad, {kind}" + ", 4-bit weights" * four_bits
    defines = ("EP_FOUR_BIT 1",) * four_bits + ("EP_PLAIN_SUMS 1",) * plain
    defines += ("EP_UNEVEN_CHANNELS 1",) * bool(y.shape[3] % 4)
    defines += (f"EP_LINE_BITS {line_bits}",) if line_bits else ()
    constants = (Constant("weight", "int8_t", stream),)
    return Layer(op, (call,), constants, scratch, {x.name: Overlap(lead)}, name, defines=defines)


def conv_four_bit(graph: g.Graph, op: g.Conv, rounding: Rounding) -> Layer | None:
    """An ungrouped convolution with weights of -8..7, two in a byte."""
    channels = channels_for(graph, op, rounding)
    if channels is None or op.groups != 1 or _reach(channels).max(initial=0) >= 2**27:
        return None
    weight = padded(_gathered(graph, op, channels.weight), 4, axis=1)
    quads = _in_quads(Channels(weight, channels.bias, channels.multiplier, channels.shift))
    plain = not _cut_off(graph, op, rounding)
    return _tiled(graph, op, weight.shape[1], _stream_four_bit(quads, rounding, plain), plain=plain, four_bits=True)


def _words(values: Array) -> Array:
    """Integers of up to 32 bits, modulo 2**32, as bytes: [..., n] -> int8 [..., 4 n]."""
    return np.ascontiguousarray(np.asarray(values).astype(np.int64).astype(np.uint32), "<u4").view("i1")


def _shifts(channels: Channels, rounding: Rounding, more: Array) -> Array:
    """A word per quad with its four right shifts; more: bits that a position's high product has too many."""
    shift = channels.shift.reshape(-1, 4).astype(np.int64) + more - (rounding == "single") * (more == 0)
    return np.asarray((shift << [0, 8, 16, 24]).sum(axis=1))


def _nibble_words(weight: Array) -> Array:
    """[4 n channels, K] of -8..7, K a multiple of 4 -> int8 [n, 2 K]: words of two inputs of four channels."""
    count = len(weight) // 4
    # [quads, 4 channels, blocks of 4 inputs] -> inputs 0 2 | 1 3, each as a b a b, c d c d
    blocks = weight.reshape(count, 2, 2, -1, 4)[..., SXTB16_ORDER].reshape(count, 2, 2, -1, 2)
    halves = blocks.transpose(0, 3, 1, 4, 2).reshape(count, -1, 2, 4) & 15
    return np.asarray((halves[:, :, 0] | halves[:, :, 1] << 4).astype(np.uint8).view("i1").reshape(count, -1))


def _stream_four_bit(quads: Channels, rounding: Rounding, plain: bool) -> Array:
    """What `ep_dsp_quads4` reads, in order: see ep_conv_dsp4.h."""
    more = 0 if plain else 3
    words = _nibble_words(quads.weight)
    multiplier = quads.multiplier.reshape(-1, 4)
    after = [multiplier[:, 0], _shifts(quads, rounding, np.full(4, more)), *multiplier.T[1:]]
    return np.concatenate([_words(16 * quads.bias.reshape(-1, 4)), words, _words(np.stack(after, axis=1))], axis=1)


CHANNEL_ARRAYS = ("bias", "multiplier", "shift")  # part of the weight stream


PAIR_SCALE = 256  # what the second channel of a pair is multiplied with


def _sided(packed: Array, starts: Array, after: list[Array]) -> Array:
    """[quads, bytes]: where sums start | weight words, pairs side by side | what ends the tile. packed: [pairs, K]."""
    words = np.ascontiguousarray(packed.view("<i4").reshape(len(starts), 2, -1).transpose(0, 2, 1))
    return np.concatenate(
        [_words(starts), words.view("i1").reshape(len(starts), -1), _words(np.stack(after, axis=1))], axis=1
    )


def _stream(quads: Channels, packed: Array, even: lines.Lines, odd: lines.Lines) -> Array:
    """What `ep_dsp_quads` reads, in order: see ep_conv_dsp.h."""
    bias = quads.bias.astype(np.int64).reshape(-1, 2, 2)  # [quads, pair, channel]
    alone = bias[..., 0] + even.start.reshape(-1, 2)
    both = alone + PAIR_SCALE * bias[..., 1] + odd.start.reshape(-1, 2)
    nudge = (even.nudge.reshape(-1, 2) & 0xFFFF) << [0, 16]
    (a, c), (b, d) = (side.multiplier.reshape(-1, 2).T for side in (even, odd))
    starts = np.stack([alone, both], axis=2).reshape(-1, 4)
    return _sided(packed, starts, [nudge.sum(axis=1), a, b, c, d])


def _plain_stream(quads: Channels, packed: Array, rounding: Rounding) -> Array:
    """The same where every sum is rounded step by step."""
    bias, multiplier = (values.astype(np.int64).reshape(-1, 4) for values in (quads.bias, quads.multiplier))
    a, b, c, d = (multiplier if rounding == "single" else 2 * multiplier - 2**32).T
    after = [bias[:, 1], a, _shifts(quads, rounding, np.zeros(4, np.int64)), b, bias[:, 3], c, d]
    return _sided(packed, np.repeat(bias[:, ::2], 2, axis=1), after)


def _gather(op: g.Conv, channels: int, kernel: tuple[int, ...]) -> str:
    """Which kernel brings the inputs of a pixel together."""
    simple = kernel == (1, 1) and op.stride == (1, 1) and op.pads == (0, 0, 0, 0) and channels % 4 == 0
    return "point" if simple else "window"


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


def dense_four_bit(graph: g.Graph, op: g.Dense, rounding: Rounding) -> Layer | None:
    """A matrix times one row, weights of -8..7, two in a byte."""
    x, weight, y = graph.tensor(op.inputs[0]), graph.constant(op.inputs[1]), graph.tensor(op.output)
    channels = channels_for(graph, op, rounding)
    if channels is None or x.size != weight.shape[1] or weight.shape[1] % 4:
        return None
    words = _nibble_words(padded(channels.weight, 4))
    constants = (Constant("weight", "int8_t", words), *channels.constants(4))
    arguments = (In(x.name), Out(y.name))
    call = Call("ep_dense_dsp4", "ep_dense_dsp4.h", arguments, "ep_dense", portable.dense_fields(graph, op))
    return Layer(op, (call,), constants, kernel="dense 4x1 smlad, 4-bit weights")


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
    one_to_one = op.groups == x.shape[3] == y.shape[3] >= 4
    square = weight.shape[1:3] == (3, 3) and op.dilation == (1, 1) and op.stride in ((1, 1), (2, 2))
    return one_to_one and square and max(op.pads[:2]) <= 1 and _pitch(graph, op) <= LDRD_REACH


LDRD_REACH = 1016
STRIP_BYTES = 4096
STRIP_SHARE = 10
PLANES = 4


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
    strip, rows = _strip(y.shape[1], op.stride[0], pitch, _spare_bytes(graph, x))
    scratch = (PLANES * rows + op.stride[0]) * pitch  # a second row of outputs that is none reads on behind the planes
    fields = {name: value for name, value in portable.conv_fields(graph, op).items() if name not in CHANNEL_ARRAYS}
    nested: dict[str, Field] = {f"conv.{name}": value for name, value in fields.items()}
    arguments = (In(x.name), Out(y.name), Scratch("uint32_t"))
    call = Call("ep_depthwise_dsp", "ep_depthwise_dsp.h", arguments, "ep_depthwise", {**nested, "strip": strip})
    shrinks = y.shape[1] <= x.shape[1] and y.shape[2] <= x.shape[2]
    overlaps = {x.name: Overlap(0, x.shape[3])} if shrinks else {}
    found = _plane_lines(graph, rounding)
    bits = _line_bits(graph, rounding, True) + PAIR_SCALE.bit_length() - 1
    defines = (f"EP_PLANE_PITCH {pitch}", f"EP_PLANE_BITS {bits}" if found else "EP_PLAIN_PLANES 1")
    taps = _taps(channels, found[op.name]) if found else _plain_taps(channels, rounding)
    constants = (Constant("weight", "int8_t", taps),)
    return Layer(op, (call,), constants, scratch, overlaps, "depthwise 3x3 smlad", defines=defines)


TAP_ORDER = [0, 3, 1, 4, 6, 2, 7, 5]


@lru_cache(maxsize=1)
def _plane_lines(graph: g.Graph, rounding: Rounding) -> dict[str, lines.Lines]:
    """Lines of every such layer of a model by name; none if one of them has none, as all share one copy of the code."""
    bits, found = _line_bits(graph, rounding, True), dict[str, lines.Lines | None]()
    for op in graph.ops:
        channels = channels_for(graph, op, rounding) if is_depthwise3x3(graph, op) else None  # type: ignore[arg-type]
        if channels is not None and isinstance(op, g.Conv):
            found[op.name] = _lines_of_planes(graph, op, channels, rounding, bits)
    return {name: line for name, line in found.items() if line} if all(found.values()) else {}


def _lines_of_planes(
    graph: g.Graph, op: g.Conv, channels: Channels, rounding: Rounding, bits: int
) -> lines.Lines | None:
    wanted = _factors(graph, op, channels, rounding)
    return lines.alone(wanted, bits, PAIR_SCALE) if wanted and 1 <= bits <= lines.most_bits(wanted) else None


def _taps(channels: Channels, line: lines.Lines) -> Array:
    """Per channel what `ep_depthwise_rows1` reads: see ep_depthwise_dsp.h."""
    start = PAIR_SCALE * channels.bias.astype(np.int64) + line.start
    return _tap_bytes(channels, np.stack([start, line.multiplier], axis=1), line.nudge)


def _plain_taps(channels: Channels, rounding: Rounding) -> Array:
    multiplier = channels.multiplier.astype(np.int64)
    scale = multiplier if rounding == "single" else 2 * multiplier - 2**32
    return _tap_bytes(channels, np.stack([channels.bias, scale], axis=1), channels.shift - (rounding == "single"))


def _tap_bytes(channels: Channels, numbers: Array, last: Array) -> Array:
    weight = channels.weight.astype(np.int8)
    return np.concatenate([weight[:, TAP_ORDER], _words(numbers), weight[:, 8:], last.astype(np.int8)[:, None]], axis=1)


def _spare_bytes(graph: g.Graph, image: g.Tensor) -> int:
    """What planes may take: what the arena has left beside this image, at least a share of the largest tensor."""
    largest = max(t.nbytes for t in graph.tensors.values() if t.data is None)
    return min(STRIP_BYTES, max(largest - image.nbytes, largest // STRIP_SHARE))


def _strip(out_rows: int, stride: int, pitch: int, spare: int) -> tuple[int, int]:
    """(output rows per strip, plane rows) for planes of `spare` bytes.

    An even number of rows, of which two are made at a time, if there are several strips.
    """
    keep = 3 - stride
    most = max(2, ((spare // pitch - stride) // PLANES - keep) // stride // 2 * 2)
    strips = -(-out_rows // most)
    strip = out_rows if strips == 1 else -(-out_rows // strips // 2) * 2
    return strip, strip * stride + keep
