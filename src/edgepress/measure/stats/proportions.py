"""Right and wrong, counted: intervals and tests for accuracies, paired and unpaired. Pure Python: quick to import."""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import NamedTuple

NORMAL = NormalDist()

MANY = 1e12
"""More observations than anybody will take."""


class Interval(NamedTuple):
    """An estimate between its confidence limits; the limits are `None` where the data cannot support them."""

    value: float
    low: float | None
    high: float | None


def normal_quantile(error_rate: float) -> float:
    """z with P(Z > z) = error_rate."""
    return -NORMAL.inv_cdf(error_rate)


def wilson(successes: float, n: int, error_rate: float) -> Interval:
    """Wilson score interval of a proportion (Wilson 1927, JASA 22).

    Args:
        successes: number of successes; fractional if only the proportion is known.
        n: number of trials, at least 1.
    """
    z = normal_quantile(error_rate)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)))


def binomial_upper_tail(k: int, n: int, share: float = 0.5) -> float:
    """P(X >= k) for X ~ Binomial(n, share), summed exactly in log space."""
    if k <= 0:
        return 1.0
    if k > n:
        return 0.0
    if k <= n // 2:  # sum the shorter side
        return 1.0 - binomial_upper_tail(n - k + 1, n, 1 - share)
    return min(1.0, math.fsum(binomial_probability(i, n, share) for i in range(k, n + 1)))


def binomial_probability(k: int, n: int, share: float) -> float:
    """P(X = k) for X ~ Binomial(n, share)."""
    if share in (0.0, 1.0):
        return float(k == n * share)
    choose = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(choose + k * math.log(share) + (n - k) * math.log1p(-share))


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided exact p-value that two models are equally often right (McNemar 1947, Psychometrika 12).

    Only discordant samples inform it: given their number, `only_first` is Binomial(discordant, 1/2) if equal.
    """
    discordant = only_first + only_second
    return min(1.0, 2 * binomial_upper_tail(max(only_first, only_second), discordant)) if discordant else 1.0


def drop_p_value(only_first: int, only_second: int, n: int, margin: float) -> float:
    """One-sided p-value against "the drop is at most `margin`": small means the second model is worse than allowed.

    Exact (McNemar) at margin 0, Tango's score test elsewhere.
    """
    if margin == 0:
        return binomial_upper_tail(only_first, only_first + only_second)
    return 1 - NORMAL.cdf(tango_score(only_first, only_second, n, margin))


def tango_score(only_first: int, only_second: int, n: int, drop: float) -> float:
    """Score statistic of a paired difference of proportions (Tango 1998, Statistics in Medicine 17, eq. 10).

    Standard normal if the true drop P(only first right) - P(only second right) equals `drop`.
    """
    b, c = only_first, only_second
    linear = -b - c + (2 * n - b + c) * drop
    constant = -c * drop * (1 - drop)
    # Restricted maximum-likelihood estimate of P(only second right).
    share = (math.sqrt(max(0.0, linear * linear - 8 * n * constant)) - linear) / (4 * n)
    variance = n * (2 * share + drop * (1 - drop))
    excess = b - c - n * drop
    if variance <= 0:
        return math.copysign(math.inf, excess) if excess else 0.0
    return excess / math.sqrt(variance)


def paired_drop(only_first: int, only_second: int, n: int, error_rate: float) -> Interval:
    """Drop in accuracy from the first to the second model on the same `n` samples, with Tango's score limits.

    A ratio in [-1, 1]; positive means that the second model is right less often.
    """
    z = normal_quantile(error_rate)
    drop = (only_first - only_second) / n

    def score(x: float) -> float:
        return tango_score(only_first, only_second, n, x)

    return Interval(drop, _falls_below(score, z, -1.0, drop), _falls_below(score, -z, drop, 1.0))


def _falls_below(score: Callable[[float], float], level: float, low: float, high: float) -> float:
    """Where the decreasing function `score` crosses `level` within [low, high], by bisection to 1e-10."""
    while high - low > 1e-10:
        middle = (low + high) / 2
        low, high = (middle, high) if score(middle) > level else (low, middle)
    return (low + high) / 2


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that keep the chance of any false rejection (Holm 1979, Scand. J. Statist. 6)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def samples_to_decide(
    distance: float, standard_error: float, n: int, error_rate: float, power: float = 0.9
) -> int | None:
    """How many observations beyond `n` decide on which side of a limit the truth lies, with probability `power`.

    The standard error shrinks with 1/sqrt(n); it must come down to |distance| / (z_error + z_power).

    Args:
        distance: estimate minus limit. `None` is returned when it is (next to) 0: no number of samples decides.
    """
    if distance == 0 or n == 0:
        return None
    excess = standard_error * (normal_quantile(error_rate) + normal_quantile(1 - power)) / abs(distance)
    needed = n * excess * excess
    return max(1, math.ceil(needed) - n) if needed < MANY else None


def samples_for_percentile(share: float, error_rate: float) -> int:
    """Fewest samples whose extremes bound a quantile: share**n and (1 - share)**n are at most `error_rate`."""
    return math.ceil(math.log(error_rate) / math.log(max(share, 1 - share)))
