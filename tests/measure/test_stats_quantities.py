"""Intervals of noisy numbers: coverage by simulation, also where neighbours are correlated."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepress.measure.stats.proportions import Interval
from edgepress.measure.stats.quantities import (
    block_length,
    location,
    paired_ratio,
    quantile,
    trimmed_location,
    trimmed_mean,
    unpaired_ratio,
)

NOISE = 0.0266


def autocorrelated(random: np.random.Generator, n: int, correlation: float) -> np.ndarray:
    """AR(1) noise of unit variance."""
    values = random.standard_normal(n)
    for i in range(1, n):
        values[i] = correlation * values[i - 1] + math.sqrt(1 - correlation**2) * values[i]
    return values


def test_trimmed_mean_ignores_outliers() -> None:
    values = np.array([1.0] * 18 + [1000.0, -1000.0])
    assert trimmed_mean(values) == 1.0


def test_block_length_follows_correlation() -> None:
    random = np.random.default_rng(0)
    independent = [block_length(random.standard_normal(500)) for _ in range(40)]
    correlated = [block_length(autocorrelated(random, 500, 0.8)) for _ in range(40)]
    assert np.median(independent) == 8  # the floor, n^(1/3)
    assert np.median(correlated) >= 12
    assert block_length(np.ones(50)) == 4


@pytest.mark.parametrize(("n", "correlation", "allowed"), [(20, 0.0, 0.05), (200, 0.0, 0.05), (400, 0.6, 0.07)])
def test_location_errs_about_as_often_as_it_says(n: int, correlation: float, allowed: float) -> None:
    """Correlated noise is estimated from few effective samples, so that a little more than 5 % is accepted there."""
    random = np.random.default_rng(2)
    repeats = 400
    intervals = [location((1 + NOISE * autocorrelated(random, n, correlation)).tolist(), 0.05) for _ in range(repeats)]
    for misses in (sum(i.low > 1 for i in intervals), sum(i.high < 1 for i in intervals)):
        assert misses / repeats <= allowed + 2.6 * math.sqrt(allowed * (1 - allowed) / repeats)


def test_ignoring_correlation_would_err_far_more_often() -> None:
    """The reason for blocks: with them the error of an AR(1) mean is near the truth, without them half of it."""
    random = np.random.default_rng(3)
    runs = [autocorrelated(random, 400, 0.6) for _ in range(60)]
    truth = float(np.std([trimmed_mean(run) for run in runs], ddof=1))
    blocked = float(np.median([trimmed_location(tuple(run)).error for run in runs]))
    shuffled = float(np.median([trimmed_location(tuple(random.permutation(run))).error for run in runs]))
    assert shuffled < 0.65 * truth < 0.75 * truth < blocked


def test_few_samples_have_no_interval() -> None:
    assert location([1.0, 1.1, 0.9], 0.05) == Interval(1.0, None, None)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=8, max_size=40))
def test_swapping_inverts_a_paired_ratio(pairs: list[tuple[float, float]]) -> None:
    first, second = zip(*pairs, strict=True)
    there, back = paired_ratio(first, second, 0.05), paired_ratio(second, first, 0.05)
    assert back == pytest.approx((1 / there.value, 1 / there.high, 1 / there.low), rel=1e-9)


def test_interleaving_cancels_drift() -> None:
    random = np.random.default_rng(4)
    drift = np.linspace(1.0, 1.5, 100)  # the machine slows down by half while measuring
    first = drift * (1 + NOISE * random.standard_normal(100))
    second = 1.05 * drift * (1 + NOISE * random.standard_normal(100))
    _, low, high = paired_ratio(first.tolist(), second.tolist(), 0.05)
    assert 1.03 < low < high < 1.07


def test_quantile_limits_need_enough_samples() -> None:
    random = np.random.default_rng(5)
    few, many = random.standard_normal(298).tolist(), random.standard_normal(299).tolist()
    assert quantile(few, 0.99, 0.05).high is None
    assert quantile(many, 0.99, 0.05).high == max(many)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_quantile_errs_no_more_often_than_it_says(share: float) -> None:
    random = np.random.default_rng(6)
    truth, repeats = -math.log(1 - share), 1000  # of the exponential distribution
    intervals = [quantile(random.exponential(size=100).tolist(), share, 0.05) for _ in range(repeats)]
    bound = 0.05 + 3 * math.sqrt(0.05 * 0.95 / repeats)
    assert sum(i.low > truth for i in intervals) / repeats <= bound
    assert sum(i.high < truth for i in intervals) / repeats <= bound


def test_unpaired_ratio_of_exact_values_is_exact() -> None:
    assert unpaired_ratio(Interval(4, 4, 4), Interval(1, 1, 1)) == (0.25, 0.25, 0.25)
    assert unpaired_ratio(Interval(4, None, None), Interval(1, 1, 1)) == (0.25, None, None)
    assert unpaired_ratio(Interval(4, -1, 5), Interval(1, 1, 1)).high is None
    assert unpaired_ratio(Interval(4, 4, 4), Interval(0, 0, 0)) == (0, 0, 0)
    assert unpaired_ratio(Interval(4, 3, 5), Interval(0, -1, 1)) == (0, None, None)
