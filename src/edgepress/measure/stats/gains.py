"""What a change brought, from scores of the same samples with and without it, for one seed or several."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edgepress.measure.stats.proportions import mcnemar_exact, normal_quantile, paired_drop
from edgepress.measure.stats.quantities import student_quantile

RESAMPLES = 10_000
Array = np.ndarray


class Gain(NamedTuple):
    """A paired difference, its limits (`None` where the data support none), and a p-value where a test fits."""

    value: float
    low: float | None
    high: float | None
    p_value: float | None = None


def gain_of_one(with_it: Array, without: Array, error_rate: float = 0.05) -> Gain:
    """From one run each. Shape (samples,); larger is better.

    Right and wrong (0 and 1): Tango's limits and McNemar's exact test. Other scores: a paired percentile bootstrap.
    """
    if _is_binary(with_it) and _is_binary(without):
        lost, won = int(((with_it == 1) & (without == 0)).sum()), int(((with_it == 0) & (without == 1)).sum())
        drop = paired_drop(lost, won, len(with_it), error_rate)
        return Gain(drop.value, drop.low, drop.high, mcnemar_exact(lost, won))
    difference = with_it - without
    picks = np.random.default_rng(0).integers(0, len(difference), size=(RESAMPLES, len(difference)), dtype=np.int32)
    means = difference[picks].mean(1)
    low, high = np.quantile(means, [error_rate / 2, 1 - error_rate / 2])
    return Gain(float(difference.mean()), float(low), float(high))


def gain_of_several(with_it: Sequence[Array], without: Sequence[Array], error_rate: float = 0.05) -> Gain:
    """From one run per seed each. Two sources of chance are added up: the seeds, and the samples that judge them all.

    half width^2 = (t s_seeds / sqrt(seeds))^2 + (z s_samples / sqrt(samples))^2, with s_seeds over the seeds' mean
    differences and s_samples over the samples' differences averaged over the seeds. The spread over seeds holds some of
    the samples' chance already, so the limits err on the wide side.
    """
    differences = np.stack(with_it) - np.stack(without)
    over_seeds = seed_reach(differences.mean(1), error_rate)
    each = differences.mean(0)
    over_samples = normal_quantile(error_rate / 2) * float(each.std(ddof=1)) / math.sqrt(len(each))
    reach, value = math.hypot(over_seeds, over_samples), float(differences.mean())
    return Gain(value, value - reach, value + reach)


def gain_of_metrics(with_it: Sequence[float], without: Sequence[float], error_rate: float = 0.05) -> Gain:
    """From a metric that is no mean over samples: the seeds alone; no limits from a single one."""
    differences = np.asarray(with_it) - np.asarray(without)
    value = float(differences.mean())
    if len(differences) < 2:
        return Gain(value, None, None)
    reach = seed_reach(differences, error_rate)
    return Gain(value, value - reach, value + reach)


def seed_reach(values: Array, error_rate: float) -> float:
    """Half the width of Student's interval for the mean of at least two values."""
    quantile = student_quantile(error_rate / 2, len(values) - 1)
    return quantile * float(values.std(ddof=1)) / math.sqrt(len(values))


def _is_binary(scores: Array) -> bool:
    return bool(np.isin(scores, (0, 1)).all())
