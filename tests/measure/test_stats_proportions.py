"""Intervals and tests of counted right and wrong, held against scipy, published figures and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from edgepress.measure.stats.proportions import (
    binomial_upper_tail,
    drop_p_value,
    holm,
    mcnemar_exact,
    normal_quantile,
    paired_drop,
    samples_for_percentile,
    samples_to_decide,
    tango_score,
    wilson,
)


@given(n=st.integers(1, 3000), share=st.floats(0.01, 0.99), data=st.data())
def test_binomial_tail_is_scipys(n: int, share: float, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n + 1))
    assert math.isclose(binomial_upper_tail(k, n, share), stats.binom.sf(k - 1, n, share), rel_tol=1e-7, abs_tol=1e-10)


@given(n=st.integers(1, 5000), data=st.data())
def test_wilson_is_scipys(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    expected = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    _, low, high = wilson(k, n, 0.025)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)


@given(b=st.integers(0, 300), c=st.integers(0, 300))
def test_mcnemar_is_the_binomial_test_of_the_discordant(b: int, c: int) -> None:
    expected = stats.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert mcnemar_exact(b, c) == pytest.approx(expected, abs=1e-9)


def test_tango_limits_solve_the_score_equation() -> None:
    drop, low, high = paired_drop(12, 2, 44, 0.025)
    assert drop == pytest.approx(10 / 44)
    z = normal_quantile(0.025)
    assert tango_score(12, 2, 44, low) == pytest.approx(z, abs=1e-6)
    assert tango_score(12, 2, 44, high) == pytest.approx(-z, abs=1e-6)


@given(n=st.integers(2, 2000), data=st.data(), rate=st.floats(0.001, 0.2))
def test_paired_drop_encloses_its_estimate_and_mirrors(n: int, data: st.DataObject, rate: float) -> None:
    b = data.draw(st.integers(0, n))
    c = data.draw(st.integers(0, n - b))
    drop, low, high = paired_drop(b, c, n, rate)
    assert -1 <= low <= drop + 1e-9 and drop - 1e-9 <= high <= 1
    mirrored = paired_drop(c, b, n, rate)
    assert (mirrored.low, mirrored.high) == pytest.approx((-high, -low), abs=1e-7)


@pytest.mark.parametrize(("lost", "gained"), [(0.03, 0.03), (0.02, 0.01), (0.10, 0.02)])
def test_paired_drop_errs_as_often_as_it_says(lost: float, gained: float) -> None:
    random = np.random.default_rng(1)
    n, repeats, rate = 400, 2000, 0.05
    counts = random.multinomial(n, [lost, gained, 1 - lost - gained], size=repeats)
    intervals = [paired_drop(int(b), int(c), n, rate) for b, c, _ in counts]
    truth = lost - gained
    for misses in (sum(i.low > truth for i in intervals), sum(i.high < truth for i in intervals)):
        assert misses / repeats < rate + 3 * math.sqrt(rate * (1 - rate) / repeats)


def test_no_discordant_sample_still_leaves_doubt() -> None:
    _, low, high = paired_drop(0, 0, 100, 0.05)
    assert low < 0 < high
    assert high == pytest.approx(normal_quantile(0.05) ** 2 / (100 + normal_quantile(0.05) ** 2), abs=1e-6)


def test_drop_p_value_is_exact_at_margin_zero() -> None:
    assert drop_p_value(8, 1, 500, 0.0) == pytest.approx(10 / 512)
    assert drop_p_value(30, 2, 500, 0.01) < 0.001 < drop_p_value(8, 6, 500, 0.01)


def test_holm_of_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_lies_between_raw_and_bonferroni(p_values: list[float]) -> None:
    for raw, adjusted in zip(p_values, holm(p_values), strict=True):
        assert raw <= adjusted <= min(1.0, len(p_values) * raw) + 1e-12


def test_samples_to_decide_is_what_a_power_calculation_gives() -> None:
    # sd 1, n = 25: error 0.2; distance 0.5 needs ((1.645 + 1.282) / 0.5)^2 = 34.3 observations.
    assert samples_to_decide(0.5, 0.2, 25, 0.05) == 10
    assert samples_to_decide(0.0, 0.2, 25, 0.05) is None
    assert samples_to_decide(1e-300, 0.2, 25, 0.05) is None


def test_samples_for_percentile_bounds_it_from_both_sides() -> None:
    assert samples_for_percentile(0.99, 0.05) == 299
    assert samples_for_percentile(0.5, 0.05) == 5
