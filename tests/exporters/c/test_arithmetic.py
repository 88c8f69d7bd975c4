"""The integer arithmetic against exact rational numbers and against floating point."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepress.exporters.c import arithmetic
from edgepress.exporters.c.tflite import softmax_factors

INT32 = st.integers(-(2**31), 2**31 - 1)
MULTIPLIER = st.integers(2**30, 2**31 - 1)


def half_away(value: Fraction) -> int:
    return floor(value + Fraction(1, 2)) if value >= 0 else -floor(-value + Fraction(1, 2))


def one(x: int) -> np.ndarray:
    return np.array([x], np.int64)


@given(INT32, MULTIPLIER)
def test_high_product_rounds_half_up(x: int, multiplier: int) -> None:
    assert arithmetic.high_product(one(x), multiplier)[0] == floor(Fraction(x * multiplier, 2**31) + Fraction(1, 2))


@given(INT32, st.integers(0, 31))
def test_shift_rounds_half_away_from_zero(x: int, shift: int) -> None:
    assert arithmetic.rounding_shift_right(one(x), shift)[0] == half_away(Fraction(x, 2**shift))


@given(INT32, MULTIPLIER, st.integers(-31, 0))
def test_single_rounding_is_one_exact_rounding(x: int, multiplier: int, shift: int) -> None:
    exact = Fraction(x * multiplier) * Fraction(2) ** (shift - 31)
    assert arithmetic.multiply(one(x), multiplier, shift, "single")[0] == floor(exact + Fraction(1, 2))


@given(st.integers(-(2**24), 2**24), MULTIPLIER, st.integers(-31, 0))
def test_double_rounding_is_at_most_one_away_from_exact(x: int, multiplier: int, shift: int) -> None:
    exact = Fraction(x * multiplier) * Fraction(2) ** (shift - 31)
    assert abs(arithmetic.multiply(one(x), multiplier, shift, "double")[0] - exact) <= 1


@given(st.floats(1e-9, 1e4))
def test_a_factor_survives_to_31_bits(real: float) -> None:
    multiplier, shift = arithmetic.quantize_multiplier(real)
    assert 2**30 <= multiplier < 2**31
    assert multiplier * 2.0 ** (shift - 31) == pytest.approx(real, rel=2**-30)


def test_a_vanishing_factor_becomes_zero_and_a_full_mantissa_carries() -> None:
    assert arithmetic.quantize_multiplier(2.0**-40) == (0, 0)
    assert arithmetic.quantize_multiplier(1.0 - 2.0**-40) == (2**30, 1)


@given(st.floats(-31.9, 0))
def test_exponential(x: float) -> None:
    raw = round(x * 2**26)
    assert arithmetic.exp_negative(one(raw))[0] / 2**31 == pytest.approx(np.exp(raw / 2**26), abs=2e-6)


@given(st.integers(0, 2**31 - 1))
def test_reciprocal(raw: int) -> None:
    assert arithmetic.reciprocal_of_one_plus(raw) / 2**31 == pytest.approx(1 / (1 + raw / 2**31), abs=1e-8)


@given(st.lists(st.integers(-128, 127), min_size=2, max_size=40), st.floats(0.01, 1.0))
def test_softmax_is_within_a_step_of_the_real_one(codes: list[int], scale: float) -> None:
    x = np.array(codes, np.int64)
    exps = np.exp((x - x.max()) * scale)
    ours = arithmetic.softmax(x[None], **softmax_factors(scale))[0] + 128
    np.testing.assert_allclose(ours, np.minimum(exps / exps.sum() * 256, 255), atol=1.01)


@given(st.integers(-(2**20), 2**20), st.integers(1, 1000))
def test_average_rounds_half_away_from_zero(total: int, count: int) -> None:
    assert arithmetic.average(one(total), count)[0] == half_away(Fraction(total, count))
