"""The uncertainty of a metric that is no mean over samples: mean IoU, AUC, mAP, F1, perplexity.

Delete-a-group jackknife (Quenouille 1956, Biometrika 43; Tukey 1958; Shao & Tu 1995, The Jackknife and Bootstrap):
samples are dealt to B blocks, the metric is computed without each block in turn, and the pseudo-values

    p_b = B * metric(all) - (B - 1) * metric(all but block b)

behave like B independent observations whose mean estimates the metric. Twenty evaluations of stored outputs, where a
bootstrap would need hundreds. Two models that see the same blocks are compared block by block, which takes out what
makes a block hard for both.
"""

import math
from collections.abc import Callable, Sequence
from statistics import stdev

import numpy as np
from numpy.typing import NDArray

from edgepress.measure.stats.proportions import Interval
from edgepress.measure.stats.quantities import student_quantile

BLOCKS = 20


def pseudo_values(metric: Callable[[NDArray[np.int64]], float], n: int, whole: float) -> tuple[float, ...]:
    """Pseudo-values of a metric over `n` samples, dealt to the blocks by a fixed seed.

    Args:
        metric: its value on the samples of the given rows. whole: its value on all of them.

    Returns:
        `BLOCKS` numbers; none if there are fewer than two samples a block, or a value is not finite.
    """
    if n < 2 * BLOCKS:
        return ()
    block = np.random.default_rng(0).permutation(n) % BLOCKS
    values = [BLOCKS * whole - (BLOCKS - 1) * metric(np.flatnonzero(block != b)) for b in range(BLOCKS)]
    return tuple(values) if all(map(math.isfinite, values)) else ()


def around(value: float, blocks: Sequence[float], error_rate: float) -> Interval:
    """Student limits around `value` from its pseudo-values."""
    reach = _reach(blocks, error_rate)
    return Interval(value, value - reach, value + reach)


def paired_difference(first: Sequence[float], second: Sequence[float], value: float, error_rate: float) -> Interval:
    """Limits of second - first, `value`, from pseudo-values over the same blocks."""
    return around(value, [b - a for a, b in zip(first, second, strict=True)], error_rate)


def paired_ratio(
    first: Sequence[float], second: Sequence[float], values: tuple[float, float], error_rate: float
) -> Interval:
    """Limits of the ratio of two positive `values`, second / first, by the delta method on logs.

    Args:
        first, second: pseudo-values over the same blocks.
    """
    one, two = values
    reach = _reach([b / two - a / one for a, b in zip(first, second, strict=True)], error_rate)
    return Interval(two / one, two / one * math.exp(-reach), two / one * math.exp(reach))


def _reach(blocks: Sequence[float], error_rate: float) -> float:
    return student_quantile(error_rate, len(blocks) - 1) * stdev(blocks) / math.sqrt(len(blocks))
