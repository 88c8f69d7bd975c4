"""What a change brought, from scores of the same samples with and without it, for one seed or several."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edgepress.measure.stats.proportions import mcnemar_exact, paired_drop
from edgepress.measure.stats.quantities import student_quantile

SIDE = 0.025  # error rate of either side: limits of 95 %
Array = np.ndarray


class Gain(NamedTuple):
    """A paired difference, its limits (`None` where the data support none), and a p-value where a test fits."""

    value: float
    low: float | None
    high: float | None
    p_value: float | None = None


def gain_of_answers(with_it: Array, without: Array) -> Gain:
    """From one run each, right (1) or wrong (0) of each sample: Tango's limits and McNemar's exact test."""
    lost, won = int(((with_it == 1) & (without == 0)).sum()), int(((with_it == 0) & (without == 1)).sum())
    drop = paired_drop(lost, won, len(with_it), SIDE)
    return Gain(drop.value, drop.low, drop.high, mcnemar_exact(lost, won))


def gain_of_runs(value: float, with_it: Sequence[Array], without: Sequence[Array]) -> Gain:
    """From one run per seed each. Two sources of chance are added up: the seeds, and the samples that judge them all.

    half width^2 = (t s_seeds / sqrt(seeds))^2 + (t s_scores / sqrt(scores))^2, with s_seeds over the seeds' mean
    differences (left out for a single seed) and s_scores over the scores' differences averaged over the seeds. The
    spread over seeds holds some of the samples' chance already, so the limits err on the wide side.

    Args:
        value: the gain itself. with_it, without: per seed the scores of samples, or pseudo-values of blocks of them
            (`jackknife`); larger is better.
    """
    differences = np.stack(with_it) - np.stack(without)
    over_seeds = _reach(differences.mean(1)) if len(differences) > 1 else 0.0
    reach = math.hypot(over_seeds, _reach(differences.mean(0)))
    return Gain(value, value - reach, value + reach)


def gain_of_metrics(with_it: Sequence[float], without: Sequence[float]) -> Gain:
    """From the metric of each seed alone; no limits from a single one."""
    differences = np.asarray(with_it) - np.asarray(without)
    value = float(differences.mean())
    if len(differences) < 2:
        return Gain(value, None, None)
    reach = _reach(differences)
    return Gain(value, value - reach, value + reach)


def _reach(values: Array) -> float:
    """Half the width of Student's interval for the mean of at least two values."""
    return student_quantile(SIDE, len(values) - 1) * float(values.std(ddof=1)) / math.sqrt(len(values))
