"""The integer arithmetic of the generated C, in numpy: this file is the definition, the C must equal it bit for bit.

Two roundings of x * multiplier * 2**(shift - 31) are offered:

- `double` (default): what TensorFlow Lite Micro and CMSIS-NN compute (gemmlowp): a rounding doubling high product,
  then a rounding right shift, half away from zero;
- `single`: one exact 64-bit product, rounded once, half up.
"""

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgepress.exporters.c.graph import Rescale

Rounding = Literal["double", "single"]
Ints = npt.NDArray[np.int64]
INT32_MAX = 2**31 - 1
INT32_MIN = -(2**31)


def quantize_multiplier(real: float) -> tuple[int, int]:
    """(multiplier, shift) with multiplier in [2**30, 2**31) so that real = multiplier * 2**(shift - 31).

    A factor below 2**-31 becomes 0. The mantissa is rounded half away from zero, as TFLite's QuantizeMultiplier does.
    """
    mantissa, shift = math.frexp(real)
    multiplier = math.floor(mantissa * 2**31 + 0.5)
    if multiplier == 2**31:
        multiplier, shift = 2**30, shift + 1
    if shift < -31:
        return 0, 0
    return multiplier, shift


def rescale_of(*reals: float) -> Rescale:
    """Integer form of one or several positive factors."""
    pairs = [quantize_multiplier(float(real)) for real in reals]
    return Rescale(tuple(m for m, _ in pairs), tuple(s for _, s in pairs))


def high_product(x: Ints, multiplier: Ints | int) -> Ints:
    """round(x * multiplier / 2**31), half up; the one overflowing pair (-2**31, -2**31) saturates."""
    product = (x.astype(np.int64) * multiplier + (1 << 30)) >> 31
    return np.minimum(product, INT32_MAX)


def rounding_shift_right(x: Ints, shift: Ints | int) -> Ints:
    """round(x / 2**shift), half away from zero."""
    shift = np.asarray(shift, np.int64)
    half = np.where(shift > 0, np.int64(1) << np.maximum(shift - 1, 0), 0)
    return np.where(shift > 0, (x + half - (x < 0)) >> shift, x)


def wrap32(x: Ints) -> Ints:
    """The value an int32 holds after the (wrapping) computation of x."""
    return ((x + 2**31) & 0xFFFFFFFF) - 2**31


def multiply(x: Ints, multiplier: Ints | int, shift: Ints | int, rounding: Rounding) -> Ints:
    """x * multiplier * 2**(shift - 31) in the given rounding. x: int32 values; multiplier, shift broadcast to x."""
    shift = np.asarray(shift, np.int64)
    if rounding == "single":
        total = 31 - shift
        return (x.astype(np.int64) * multiplier + (np.int64(1) << (total - 1))) >> total
    shifted = wrap32(x.astype(np.int64) << np.maximum(shift, 0))
    return rounding_shift_right(high_product(shifted, multiplier), np.maximum(-shift, 0))


def rescale(x: Ints, factor: Rescale, rounding: Rounding) -> Ints:
    """`multiply` by a `Rescale`, per channel over the last axis if it holds several."""
    return multiply(x, np.asarray(factor.multiplier, np.int64), np.asarray(factor.shift, np.int64), rounding)


# --- exponential and reciprocal in fixed point (gemmlowp's fixedpoint.h: same constants, same order of roundings) ----


def _saturating_shift_left(x: Ints, bits: int) -> Ints:
    return np.clip(x << bits, INT32_MIN, INT32_MAX)


def exp_between_minus_quarter_and_zero(a: Ints) -> Ints:
    """exp(a) for a in [-1/4, 0) in Q0.31: a fourth-order Taylor series around -1/8."""
    x = a + (1 << 28)
    x2 = high_product(x, x)
    x3, x4 = high_product(x2, x), high_product(x2, x2)
    series = rounding_shift_right(high_product(rounding_shift_right(x4, 2) + x3, 715827883) + x2, 1)
    return 1895147668 + high_product(x + series, 1895147668)


# (bit of the remainder in Q5.26, exp(-2**exponent) in Q0.31) for exponents -2 .. 4
EXP_STEPS = (
    (24, 1672461947),
    (25, 1302514674),
    (26, 790015084),
    (27, 290630308),
    (28, 39332535),
    (29, 720401),
    (30, 242),
)


def exp_negative(a: Ints) -> Ints:
    """exp(a) in Q0.31 for a <= 0 in Q5.26."""
    quarter = 1 << 24
    modulo = (a & (quarter - 1)) - quarter
    result = exp_between_minus_quarter_and_zero(_saturating_shift_left(modulo, 5))
    remainder = modulo - a
    for bit, factor in EXP_STEPS:
        result = np.where(remainder & (1 << bit), high_product(result, factor), result)
    return np.where(a == 0, INT32_MAX, result)


def reciprocal_of_one_plus(a: int) -> int:
    """1 / (1 + a) for a in [0, 1), Q0.31: three Newton steps from 48/17 - 32/17 d."""
    half_denominator = np.array((a + INT32_MAX + 1) // 2, np.int64)
    x = 1515870810 + high_product(half_denominator, -1010580540)
    for _ in range(3):
        residue = (1 << 29) - high_product(half_denominator, x)
        x = x + _saturating_shift_left(high_product(x, residue), 2)
    return int(_saturating_shift_left(x, 1))


def softmax(x: Ints, multiplier: int, left_shift: int, diff_min: int) -> Ints:
    """int8 softmax over the last axis: output scale 1/256, zero point -128 (TFLite reference_ops/softmax.h)."""
    rows = x.reshape(-1, x.shape[-1])
    return np.stack([_softmax_row(row, multiplier, left_shift, diff_min) for row in rows]).reshape(x.shape)


def _softmax_row(row: Ints, multiplier: int, left_shift: int, diff_min: int) -> Ints:
    return np.clip(probabilities(row, multiplier, left_shift, diff_min, bits=8) - 128, -128, 127)


def probabilities(row: Ints, multiplier: int, left_shift: int, diff_min: int, bits: int) -> Ints:
    """Softmax of one row in Q0.bits; what lies below the largest value by more than -diff_min counts as 0."""
    diff = row - row.max()
    counted = diff >= diff_min
    scaled = high_product(np.where(counted, diff, 0) << left_shift, multiplier)
    exps = np.where(counted, exp_negative(scaled), 0)
    total = int(np.where(counted, rounding_shift_right(exps, 12), 0).sum())
    headroom = 32 - total.bit_length()
    scale = reciprocal_of_one_plus((total << headroom) - 2**31)
    return np.where(counted, rounding_shift_right(high_product(exps, scale), 12 - headroom + 31 - bits), 0)


def average(total: Ints, count: Ints | int) -> Ints:
    """total / count, half away from zero."""
    half = np.asarray(count, np.int64) // 2
    quotient = (np.abs(total) + half) // count
    return np.where(total < 0, -quotient, quotient)


QUOTIENT_BITS = 22  # behind the point of a quotient of two zero-based int8 values: 255 * 2**22 < 2**30


def quotient(a: Ints, b: Ints) -> Ints:
    """a / b in steps of 2**-22, half away from zero; a / 0 is the largest int32 with the sign of a, 0 / 0 is 0."""
    size = np.abs(b)
    whole = ((np.abs(a) << QUOTIENT_BITS) + size // 2) // np.maximum(size, 1)
    whole = np.where(size == 0, np.where(a == 0, 0, INT32_MAX), whole)
    return np.where((a < 0) != (b < 0), -whole, whole)


# --- layer normalization and gates --------------------------------------------------------------------------------

NORM_BITS = 16  # a normalized value in Q.16


def normalized(row: Ints, epsilon: int) -> Ints:
    """(x - mean) / standard deviation in Q.16. epsilon: in units of n**2 times the square of a step of x."""
    n = len(row)
    total = int(row.sum())
    variance = max(1, n * int((row * row).sum()) - total * total + epsilon)
    half = (62 - variance.bit_length()) // 2  # the radicand is brought to [2**60, 2**62)
    root = math.isqrt(variance << 2 * half)
    inverse = 2**61 // root
    shift = 61 - NORM_BITS - half
    return ((n * row - total) * inverse + (1 << (shift - 1))) >> shift


GATE_STEP = 7  # bits of a Q3.12 argument between two entries
SIGMOID = tuple(round(32768 / (1 + math.exp(-k / 32))) for k in range(-256, 257))
TANH = tuple(max(-32767, min(32767, round(32768 * math.tanh(k / 32)))) for k in range(-256, 257))


def gate(x: Ints, table: tuple[int, ...]) -> Ints:
    """A function of a Q3.12 argument (saturated to [-8, 8)) in Q0.15, by linear interpolation in 512 intervals."""
    place = np.clip(x, -32768, 32767) + 32768
    index, part = place >> GATE_STEP, place & ((1 << GATE_STEP) - 1)
    low, high = np.asarray(table, np.int64)[index], np.asarray(table, np.int64)[index + 1]
    return low + (((high - low) * part + (1 << (GATE_STEP - 1))) >> GATE_STEP)


def product15(a: Ints, b: Ints) -> Ints:
    """a * b / 2**15, half up."""
    return (a * b + (1 << 14)) >> 15
