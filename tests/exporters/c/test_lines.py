"""Lines against the exact rescale, sum by sum."""

import numpy as np
import pytest

from edgepress.exporters.c import arithmetic, lines
from edgepress.exporters.c.arithmetic import Rounding

CHANNELS = 24


def drawn(seed: int, rounding: Rounding, *, zero: int = -128, clamp: tuple[int, int] = (-128, 127)) -> lines.Factors:
    """Steps of 2**2 to 2**9 sums, and reaches of 2**12 to 2**16; some channels are constant."""
    draw = np.random.default_rng(seed)
    reach = 2 ** draw.integers(12, 17, CHANNELS)
    low = -(draw.random(CHANNELS) * reach).astype(np.int64)
    high = np.where(draw.random(CHANNELS) < 0.1, low, low + reach)
    shift = draw.integers(2, 9, CHANNELS)
    multiplier = draw.integers(2**30, 2**31, CHANNELS)
    levels = np.arange(clamp[0] + 1, clamp[1] + 1)
    return lines.Factors(multiplier, shift, low, high, zero, levels, rounding)


def exact(wanted: lines.Factors, i: int, sums: np.ndarray, clamp: tuple[int, int]) -> np.ndarray:
    y = arithmetic.multiply(sums, int(wanted.multiplier[i]), -int(wanted.shift[i]), wanted.rounding)
    return np.clip(y + wanted.zero, *clamp)


def assert_line(
    wanted: lines.Factors, line: lines.Lines, bits: int, scale: int, unit: int, clamp: tuple[int, int]
) -> None:
    """What SMMLA and SSAT compute is the exact rescale, for every sum of every channel."""
    whole = bits + scale.bit_length() - 1
    base = ((2 * wanted.zero + 1) << whole) // 2
    for i in range(len(wanted.low)):
        sums = np.arange(wanted.low[i], wanted.high[i] + 1)
        scaled = scale * sums + line.start[i]
        assert np.abs(scaled).max() < 2**31 > line.multiplier[i] > 0
        value = ((scaled * line.multiplier[i]) >> 32) + base + unit * line.nudge[i]
        found = np.clip(np.clip(value >> whole, -128, 127), *clamp)
        np.testing.assert_array_equal(found, exact(wanted, i, sums, clamp))


@pytest.mark.parametrize(("rounding", "zero", "clamp"), [
    ("double", -128, (-128, 127)), ("double", -128, (-128, 40)), ("double", -20, (-20, 127)), ("double", 3, (5, 127)),
    ("single", -128, (-128, 127)), ("single", 17, (-128, 127)), ("single", 127, (-90, 90)),
])  # fmt: skip
@pytest.mark.parametrize("seed", range(3))
def test_lines_are_the_exact_rescale(seed: int, rounding: Rounding, zero: int, clamp: tuple[int, int]) -> None:
    wanted = drawn(seed, rounding, zero=zero, clamp=clamp)
    bits = lines.most_bits(wanted)
    assert bits >= 1
    alone = lines.alone(wanted, bits, 256)
    assert alone is not None
    assert np.abs(alone.nudge).max() <= 128
    assert_line(wanted, alone, bits, 256, 2 << (bits + 8), clamp)
    pairs = lines.in_pairs(wanted, bits, 256)
    assert pairs is not None
    np.testing.assert_array_equal(pairs[0].nudge, pairs[1].nudge)
    assert np.abs(pairs[0].nudge).max() < 2**15
    assert_line(wanted.part(0, 2), pairs[0], bits, 1, 1, clamp)
    assert_line(wanted.part(1, 2), pairs[1], bits, 256, 256, clamp)


def test_large_biases_in_small_steps_are_nudged() -> None:
    """A sum far from zero that decides one output or two: 256 times itself it would leave a register."""
    few = drawn(3, "double").part(0, 8)
    far = np.array([2**25, 2**26, -(2**25)])
    large = lines.Factors(few.multiplier, 0 * few.shift + 17, far, far + 2**16, -128, few.levels, "single")
    line = lines.alone(large, 3, 256)
    assert line is not None
    assert np.abs(line.nudge).max() > 0
    assert_line(large, line, 3, 256, 2 << 11, (-128, 127))


def test_rounding_away_from_zero_on_both_sides_is_no_line() -> None:
    """Below zero the steps of double rounding lie one or two sums off the line through those above."""
    wanted = drawn(0, "double", zero=0)
    assert lines.alone(wanted, lines.most_bits(wanted), 256) is None


def test_a_factor_too_steep_for_its_register_is_refused() -> None:
    wanted = drawn(1, "double")
    bits = lines.most_bits(wanted)
    assert lines.alone(wanted, bits + 2, 256) is None
    assert lines.in_pairs(wanted, bits + 2, 256) is None


def test_factors_near_one_leave_no_bits() -> None:
    few = drawn(2, "double").part(0, 6)
    steep = lines.Factors(few.multiplier, few.shift * 0, few.low, few.high, -128, few.levels, "double")
    assert lines.most_bits(steep) < 1
