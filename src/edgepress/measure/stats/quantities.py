"""Noisy numbers: means, quantiles and ratios of latencies, energies and scores, also where the noise is correlated."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgepress.measure.stats.proportions import Interval, binomial_probability

Array = NDArray[np.float64]

TRIM = 0.2
"""Share cut off at each end: an interrupt in the middle of a run must not move the estimate, and the trimmed mean keeps
more than 90 % of the mean's efficiency under normal noise (the median keeps 64 %)."""

RESAMPLES = 1000
MIN_SAMPLES = 8
"""Below this a spread cannot be told from luck: no interval is given."""


def trimmed_mean(values: Array) -> Array:
    """Mean of the middle 60 % along the last axis. Shape (..., n) -> (...)."""
    cut = int(TRIM * values.shape[-1])
    top = values.shape[-1] - cut
    middle = np.partition(values, (cut, top - 1), axis=-1)[..., cut:top]
    return np.asarray(middle.mean(axis=-1))


def block_length(values: Array) -> int:
    """Block length for a circular block bootstrap that keeps the correlation of neighbours.

    Politis & White (2004, Econometric Reviews 23) with the correction of Patton, Politis & White (2009), but never
    below n^(1/3): a few dozen samples cannot show a correlation of 0.5, which would then triple the rate of false
    alarms. Where there is none, blocks cost only degrees of freedom.
    """
    n = len(values)
    return int(np.clip(math.ceil(_politis_white(values)), math.ceil(n ** (1 / 3) - 1e-9), max(1, n // 4)))


def _politis_white(values: Array) -> float:
    """The length that minimises the mean squared error of the variance, by a flat-top lag window; 0 if uncorrelated."""
    n = len(values)
    centred = values - values.mean()
    variance = float(centred @ centred) / n
    if variance == 0:
        return 0.0
    run = max(5, int(math.sqrt(math.log10(n))))
    longest = min(n // 2, math.ceil(math.sqrt(n)) + run)
    covariance = np.array([float(centred[: n - lag] @ centred[lag:]) / n for lag in range(longest + 1)])
    cutoff = _last_significant_lag(covariance / variance, n, run)
    if cutoff == 0:
        return 0.0
    lag = np.arange(1, min(2 * cutoff, longest) + 1)
    window = np.clip(2 * (1 - lag / (2 * cutoff)), 0, 1)
    curvature = 2 * float(np.sum(window * lag * covariance[lag]))
    spectrum = covariance[0] + 2 * float(np.sum(window * covariance[lag]))
    return float((1.5 * n * curvature**2 / max(spectrum**2, 1e-300)) ** (1 / 3))


def _last_significant_lag(correlation: Array, n: int, run: int) -> int:
    """Smallest m after which `run` autocorrelations in a row lie within 2 sqrt(log10(n) / n)."""
    significant = np.abs(correlation[1:]) > 2 * math.sqrt(math.log10(n) / n)
    for lag in range(len(significant)):
        if not significant[lag : lag + run].any():
            return lag
    return len(significant)


class Location(NamedTuple):
    """Trimmed mean, its standard error, and the degrees of freedom of that error."""

    centre: float
    error: float
    freedom: float


@lru_cache(maxsize=64)
def trimmed_location(samples: tuple[float, ...]) -> Location:
    """Trimmed mean with its standard error from a circular moving-block bootstrap; the same data, the same answer.

    The error is widened by sqrt(blocks / (blocks - 1)), since a resample's spread is taken around the sample's own
    centre; the degrees of freedom are the number of blocks less one. Percentile limits are not used: they are too
    narrow for small n, and 1,000 resamples cannot show the far tails that repeated looks need.
    """
    values = np.asarray(samples, dtype=np.float64)
    n, length = len(values), block_length(values)
    starts = np.random.default_rng(0).integers(0, n, size=(RESAMPLES, math.ceil(n / length)))
    picks = (starts[..., None] + np.arange(length)) % n
    centres = trimmed_mean(values[picks.reshape(RESAMPLES, -1)[:, :n]])
    blocks = max(2.0, n / length)
    error = float(centres.std(ddof=1)) * math.sqrt(blocks / (blocks - 1))
    return Location(float(trimmed_mean(values)), error, blocks - 1)


def student_quantile(error_rate: float, freedom: float) -> float:
    """t with P(T > t) = error_rate."""
    from scipy.special import stdtrit  # 0.3 s that a gate on sizes must not pay

    return -float(stdtrit(freedom, error_rate))


def location(samples: Sequence[float], error_rate: float) -> Interval:
    """Trimmed mean of repeated measurements, with Student limits around it."""
    if len(samples) < MIN_SAMPLES:
        return Interval(float(trimmed_mean(np.asarray(samples, dtype=np.float64))), None, None)
    centre, error, freedom = trimmed_location(tuple(samples))
    reach = student_quantile(error_rate, freedom) * error
    return Interval(centre, centre - reach, centre + reach)


def paired_ratio(first: Sequence[float], second: Sequence[float], error_rate: float) -> Interval:
    """Ratio second / first of interleaved measurements (same length, positive), drift cancelled pair by pair.

    The trimmed mean of the log ratios is symmetric: swapping the two inverts the ratio and its limits exactly.
    """
    logs = np.log(np.asarray(second, dtype=np.float64)) - np.log(np.asarray(first, dtype=np.float64))
    centre, low, high = location(logs.tolist(), error_rate)
    return Interval(math.exp(centre), *(None if end is None else math.exp(end) for end in (low, high)))


def unpaired_ratio(first: Interval, second: Interval) -> Interval:
    """Ratio second / first of two independent estimates with limits at one error rate (delta method on logs)."""
    ratio = second.value / first.value
    if first.low == first.high and second.low == second.high and None not in (first.low, second.low):
        return Interval(ratio, ratio, ratio)
    if None in first or None in second or second.value <= 0:
        return Interval(ratio, None, None)
    down = math.hypot(_log_arm(second.value, second.low), _log_arm(first.value, first.high))
    up = math.hypot(_log_arm(second.value, second.high), _log_arm(first.value, first.low))
    return Interval(ratio, ratio * math.exp(-down), ratio * math.exp(up) if math.isfinite(up) else None)


def _log_arm(value: float, limit: float | None) -> float:
    """Distance of a limit from its estimate on the log scale; infinite where the limit is not positive."""
    if limit is None or limit <= 0:
        return math.inf
    return abs(math.log(limit / value))


def quantile(samples: Sequence[float], share: float, error_rate: float) -> Interval:
    """Quantile of repeated measurements with distribution-free limits from order statistics.

    The limits are the order statistics X(l), X(u) with P(Binomial(n, share) < l) and P(Binomial(n, share) >= u) both at
    most `error_rate`; where n is too small for one, it is `None` (a 99th percentile needs 299 samples for its upper
    limit at 5 %).
    """
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    n = len(ordered)
    below = np.cumsum([0.0, *(binomial_probability(k, n, share) for k in range(n))])  # below[k] = P(X < k)
    lower = np.flatnonzero(below[1:] <= error_rate)  # rank l = index + 1
    upper = np.flatnonzero(1 - below[1:] <= error_rate)  # P(X >= u), rank u = index + 1
    low = float(ordered[lower[-1]]) if len(lower) else None
    high = float(ordered[upper[0]]) if len(upper) else None
    return Interval(float(np.quantile(ordered, share)), low, high)
