"""Percentiles with distribution-free intervals, and how many samples each of them needs."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# A percentile stands on the observations beyond it; fewer than this many and it is an anecdote.
MIN_BEYOND = 10


class Quantile(NamedTuple):
    """An estimate with its 95 % interval; `None` bounds where n is too small for one."""

    value: float
    low: float | None
    high: float | None


def supported(q: float, n: int) -> bool:
    """Whether n observations support the q-quantile: at least ten lie beyond it (p90: 100, p95: 200, p99: 1000)."""
    return n * (1.0 - q) >= MIN_BEYOND - 1e-9


def quantile(samples: Sequence[float], q: float) -> Quantile:
    """The q-quantile with a 95 % interval from order statistics.

    The number of observations below the true quantile is Binomial(n, q), whatever the distribution, so that the order
    statistics at its 2.5 % and 97.5 % points enclose the quantile (David & Nagaraja, Order Statistics, section 7.1).
    The observations are taken as independent; slow drifts are reported separately.
    """
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    n = len(ordered)
    low, high = _ranks(n, q)
    value = float(np.quantile(ordered, q))
    # Interpolation can put the estimate outside when n is tiny: widening the interval keeps its coverage.
    return Quantile(
        value,
        min(value, float(ordered[low - 1])) if low >= 1 else None,
        max(value, float(ordered[high - 1])) if high <= n else None,
    )


def _ranks(n: int, q: float) -> tuple[int, int]:
    """1-based ranks (l, u) with P(X_(l) <= quantile < X_(u)) >= 95 %; 0 or n + 1 where there is no such rank."""
    cumulative = np.cumsum(_binomial(n, q))
    low = int(np.searchsorted(cumulative, 0.025, side="right"))
    high = int(np.searchsorted(cumulative, 0.975, side="left")) + 1
    return low, high


def _binomial(n: int, q: float) -> np.ndarray:
    """Probabilities of 0..n successes, in logarithms to stay finite for thousands of samples."""
    k = np.arange(n + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    log_choose = log_factorial[n] - log_factorial[k] - log_factorial[n - k]
    return np.exp(log_choose + k * math.log(q) + (n - k) * math.log1p(-q))
