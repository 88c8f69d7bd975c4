"""Percentiles: only where n supports them, and intervals that cover as they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepress.measure.percentiles import quantile, supported


@pytest.mark.parametrize(("q", "least"), [(0.5, 20), (0.9, 100), (0.95, 200), (0.99, 1000)])
def test_how_many_samples_a_percentile_needs(q: float, least: int) -> None:
    assert supported(q, least)
    assert not supported(q, least - 1)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300), st.sampled_from([0.5, 0.9, 0.99]))
def test_the_interval_encloses_the_estimate(samples: list[float], q: float) -> None:
    value, low, high = quantile(samples, q)
    assert min(samples) <= value <= max(samples)
    assert low is None or low <= value
    assert high is None or value <= high


def test_few_samples_have_no_interval() -> None:
    assert quantile([1.0, 2.0, 3.0], 0.5)[1:] == (None, None)


@pytest.mark.parametrize(("q", "n"), [(0.5, 30), (0.5, 201), (0.9, 150), (0.95, 300)])
def test_coverage_by_simulation(q: float, n: int) -> None:
    """Log-normal latencies: the interval holds the true quantile in at least 95 % of 2000 repeats (less noise)."""
    rng = np.random.default_rng(1)
    truth = float(np.quantile(rng.lognormal(size=2_000_000), q))
    intervals = (quantile(rng.lognormal(size=n).tolist(), q) for _ in range(2000))
    covered = np.mean([i.low is not None and i.high is not None and i.low <= truth <= i.high for i in intervals])
    assert 0.94 <= covered <= 0.995
