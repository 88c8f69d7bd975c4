"""A rescale of two instructions: one line that meets every step of the exact one.

The exact rescale of a sum x is a staircase of at most 256 steps; step l begins at the smallest x whose output is l or
more. v = (X M + C 2**32) >> 32 (SMMLA) and y = saturate(v >> bits) (SSAT, which shifts for free) is the same staircase
if X M + C 2**32 has reached l 2**(32 + bits) at the first sum of step l, and not one sum before. With M the factor,
rounded, nearly all of them are met; which are missed depends on how the line lies between the sums, and that can be
chosen: X = scale x + start, start being part of the bias, and C = base + nudge, both whole numbers. What is returned
has been held against every step: it is a proof, not an approximation.

scale is what a kernel's sums come multiplied with. base: the zero point and a half, times 2**bits.
"""

from dataclasses import dataclass, replace

import numpy as np

from edgepress.exporters.c import arithmetic
from edgepress.exporters.c.arithmetic import Rounding
from edgepress.exporters.c.graph import Array

TOP = 2**31  # of what a register holds
SPREAD = 512  # slopes looked at on both sides of the factor
MOST_BITS = 8
FAR = 2**62
NUDGES = (128, 2**14)  # how far nudges are looked for: near first


@dataclass(frozen=True, eq=False)
class Factors:
    """What is to be computed: y = rescale(x) + zero, for sums low..high of each channel.

    multiplier, shift (to the right), low, high: [C]. levels: outputs whose first sum matters (above the lower clamp).
    """

    multiplier: Array
    shift: Array
    low: Array
    high: Array
    zero: int
    levels: Array
    rounding: Rounding

    def part(self, start: int, step: int) -> "Factors":
        """Every `step`-th channel."""
        names = ("multiplier", "shift", "low", "high")
        return replace(self, **{name: getattr(self, name)[start::step] for name in names})


@dataclass(frozen=True, eq=False)
class Lines:
    """[C] each: M, what is added to the scaled sum, what is added to C."""

    multiplier: Array
    start: Array
    nudge: Array


def most_bits(wanted: Factors) -> int:
    """The most bits behind the point with which every multiplier fits; may be below 1, which no kernel takes."""
    moving = wanted.low < wanted.high
    steepest = (wanted.multiplier * 2.0**-wanted.shift)[moving].max(initial=0.25)
    return min(MOST_BITS, int(np.floor(np.log2((TOP - 2 * SPREAD) / steepest))) - 1)


def alone(wanted: Factors, bits: int, scale: int) -> Lines | None:
    """A line per channel with a nudge of a byte, in units of two outputs; None if one of them has none.

    The start alone places the line. Nudges are for channels of large biases in small steps: their scaled sums leave 32
    bits otherwise.
    """
    slopes = _Slopes(wanted, bits, scale)
    found = [_offset(slopes, i, np.arange(-128, 128), 2 << slopes.bits) for i in range(len(wanted.low))]
    return _lines(slopes, found)


def in_pairs(wanted: Factors, bits: int, scale: int) -> tuple[Lines, Lines] | None:
    """Lines of even channels (sums as they are) and odd ones (`scale` times the sum, `scale` times the nudge)."""
    even, odd = _Slopes(wanted.part(0, 2), bits, 1), _Slopes(wanted.part(1, 2), bits, scale)
    pairs = [_pair(even, odd, i, scale) for i in range(len(even.slope))]
    left, right = (_lines(side, [pair[k] for pair in pairs]) for k, side in ((0, even), (1, odd)))
    return (left, right) if left and right else None


class _Slopes:
    """Per channel the slope with the most room, and the offsets it has room for: low <= offset < high."""

    def __init__(self, wanted: Factors, bits: int, scale: int) -> None:
        self.wanted, self.scale = wanted, scale
        self.bits = bits + (scale - 1).bit_length()
        self.first = _first_sums(wanted)
        self.height = ((2 * (wanted.levels - wanted.zero) - 1) << (self.bits - 1)).astype(np.int64) << 32
        exact = wanted.multiplier * 2.0 ** (bits + 1 - wanted.shift)
        middle = np.where(wanted.low < wanted.high, np.minimum(np.rint(exact), TOP), 2.0**30).astype(np.int64)
        self.slope = self._widest(np.maximum(middle - SPREAD, 1), np.minimum(middle + SPREAD, TOP - 1))
        self.low, self.high = self._room(self.slope)
        # Not for a line: factors too steep for a register, and products that int64 cannot compare.
        furthest = np.maximum(np.abs(wanted.low), np.abs(wanted.high)) * float(scale) * self.slope
        refused = ((exact >= TOP) & (wanted.low < wanted.high)) | (furthest >= FAR)
        self.high = np.where(refused, self.low, self.high)

    def _room(self, slope: Array) -> tuple[Array, Array]:
        low, high = self.wanted.low[:, None], self.wanted.high[:, None]
        steep = self.scale * slope[:, None]
        reached = np.where(self.first <= high, self.height - steep * np.maximum(self.first, low), -FAR)
        not_yet = np.where(self.first > low, self.height - steep * (np.minimum(self.first, high + 1) - 1), FAR)
        return reached.max(axis=1, initial=-FAR), not_yet.min(axis=1, initial=FAR)

    def _widest(self, low: Array, high: Array) -> Array:
        """The room is concave in the slope: search by thirds."""
        while (high - low > 2).any():
            third = (high - low) // 3
            left, right = low + third, high - third
            rooms = [np.subtract(*self._room(slope)[::-1]) for slope in (left, right)]
            low, high = np.where(rooms[0] < rooms[1], left, low), np.where(rooms[0] < rooms[1], high, right)
        candidates = np.stack([low, (low + high) // 2, high])
        rooms = [np.subtract(*self._room(slope)[::-1]) for slope in candidates]
        return np.asarray(np.take_along_axis(candidates, np.argmax(rooms, axis=0)[None], axis=0)[0])


def _first_sums(wanted: Factors) -> Array:
    """[C, levels]: the smallest sum whose output reaches the level; high + 1 where none does."""
    shape = (len(wanted.low), len(wanted.levels))
    below = np.broadcast_to(wanted.low[:, None] - 1, shape)
    reached = np.broadcast_to(wanted.high[:, None] + 1, shape)
    multiplier, shift = wanted.multiplier[:, None], -wanted.shift[:, None]
    while (reached - below > 1).any():
        middle = (below + reached) >> 1
        up = arithmetic.multiply(middle, multiplier, shift, wanted.rounding) >= wanted.levels - wanted.zero
        open_ = reached - below > 1
        below, reached = np.where(open_ & ~up, middle, below), np.where(open_ & up, middle, reached)
    return reached


Offset = tuple[int, int]
"""(start, nudge)"""


def _starts(slopes: _Slopes, i: int, nudges: Array, unit: int) -> tuple[Array, Array]:
    """Per nudge the start nearest to the upper end of the room, and whether it fits: the room, and a register."""
    slope, moved = int(slopes.slope[i]), nudges.astype(np.int64) * (unit << 32)
    if slopes.high[i] == FAR:  # no step lies above
        start = -((moved - slopes.low[i]) // slope)
    else:
        start = (slopes.high[i] - 1 - moved) // slope
    ends = [slopes.scale * int(end[i]) + start for end in (slopes.wanted.low, slopes.wanted.high)]
    return start, (start * slope + moved >= slopes.low[i]) & (ends[0] >= -TOP) & (ends[1] < TOP)


def _offset(slopes: _Slopes, i: int, nudges: Array, unit: int) -> Offset | None:
    start, fits = _starts(slopes, i, nudges, unit)
    return _nearest(nudges, fits, start)


def _nearest(nudges: Array, fits: Array, start: Array) -> Offset | None:
    which = np.flatnonzero(fits)
    if not len(which):
        return None
    best = which[np.argmin(np.abs(nudges[which]))]
    return int(start[best]), int(nudges[best])


def _pair(even: _Slopes, odd: _Slopes, i: int, scale: int) -> tuple[Offset | None, Offset | None]:
    """Offsets with one nudge for both."""
    for far in NUDGES:
        nudges = np.arange(-far, far)
        start, fits = _starts(even, i, nudges, 1)
        other, too = _starts(odd, i, nudges, scale)
        if (fits & too).any():
            return _nearest(nudges, fits & too, start), _nearest(nudges, fits & too, other)
    return None, None


def _lines(slopes: _Slopes, found: list[Offset | None]) -> Lines | None:
    offsets = [offset for offset in found if offset is not None]
    if len(offsets) < len(found):
        return None
    start, nudge = np.array(offsets, np.int64).reshape(-1, 2).T
    return Lines(slopes.slope, start, nudge)
