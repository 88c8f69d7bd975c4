"""Repeated looks: boundaries against published tables, and the error rate by simulation."""

import math

import numpy as np
import pytest

from edgepress.measure.stats.proportions import normal_quantile
from edgepress.measure.stats.sequential import boundaries, look_sizes, nominal_level, spent


def test_one_look_is_the_ordinary_test() -> None:
    assert boundaries([100], [0.05]) == pytest.approx([normal_quantile(0.05)], abs=1e-6)


def test_pocock_bounds_of_the_published_table() -> None:
    """Pocock (1977), Biometrika 64, table 1: five equal looks at two-sided 5 % all use the nominal level 0.0158.

    One-sided: spending what those constant bounds spend must give constant bounds back.
    """
    from scipy.stats import multivariate_normal

    bound, sizes = 2.413, [1, 2, 3, 4, 5]
    correlation = np.array([[math.sqrt(min(i, j) / max(i, j)) for j in sizes] for i in sizes])
    stay = [multivariate_normal(cov=correlation[:k, :k]).cdf([bound] * k, rng=np.random.default_rng(0)) for k in sizes]
    assert boundaries(sizes, [1 - p for p in stay]) == pytest.approx([bound] * 5, abs=5e-3)


def test_spending_ends_at_the_whole_rate() -> None:
    assert spent(0.05, 1.0) == pytest.approx(0.05)
    assert 0 < spent(0.05, 0.25) < spent(0.05, 0.5) < 0.05


def test_look_sizes_double_up_to_the_most() -> None:
    assert look_sizes(20, 160) == [20, 40, 80, 160]
    assert look_sizes(20, 100) == [20, 40, 80, 100]
    assert look_sizes(20, 20) == [20]


@pytest.mark.parametrize("stop_early", [False, True])
def test_looks_together_err_at_the_declared_rate(stop_early: bool) -> None:
    """A fair random walk looked at repeatedly crosses its boundaries in 5 % of cases, also when time ends it early."""
    sizes, most, repeats = [20, 40, 80, 160], 320 if stop_early else 160, 40_000
    levels = [nominal_level(sizes[: k + 1], most, 0.05, last=k == 3) for k in range(4)]
    walks = np.random.default_rng(0).standard_normal((repeats, sizes[-1])).cumsum(axis=1)
    scores = np.stack([walks[:, size - 1] / math.sqrt(size) for size in sizes], axis=1)
    bounds = np.array([normal_quantile(level) for level in levels])
    alarms = (scores > bounds).any(axis=1).mean()
    assert alarms == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / repeats))
    naive = (scores > normal_quantile(0.05)).any(axis=1).mean()
    assert naive > 0.10  # what testing at 5 % each time would do
