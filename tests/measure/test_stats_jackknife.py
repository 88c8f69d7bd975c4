"""Limits of metrics that are no means."""

import math

import numpy as np
import pytest

from edgepress.measure.stats.jackknife import BLOCKS, around, paired_difference, paired_ratio, pseudo_values

RATE = 0.025


def test_of_a_mean_they_are_the_usual_limits() -> None:
    values = np.random.default_rng(1).normal(3.0, 1.0, 2000)
    blocks = pseudo_values(lambda rows: float(values[rows].mean()), len(values), float(values.mean()))
    interval = around(float(values.mean()), blocks, RATE)
    assert interval.low is not None and interval.high is not None
    expected = 2.09 / math.sqrt(2000)  # Student with 19 degrees of freedom
    assert (interval.high - interval.low) / 2 == pytest.approx(expected, rel=0.5)
    assert float(np.mean(blocks)) == pytest.approx(values.mean())


def test_coverage_of_a_ratio_of_sums() -> None:
    """A statistic like mean IoU: sum of overlaps over sum of unions. 95 % intervals hold the truth about as often."""
    chance, held = np.random.default_rng(2), 0
    for _ in range(400):
        union = chance.gamma(4.0, 1.0, 200)
        overlap = union * chance.beta(8.0, 2.0, 200)

        def share(rows: np.ndarray, a: np.ndarray = overlap, b: np.ndarray = union) -> float:
            return float(a[rows].sum() / b[rows].sum())

        value = share(np.arange(200))
        low, high = around(value, pseudo_values(share, 200, value), RATE)[1:]
        held += low is not None and high is not None and low <= 0.8 <= high
    assert 0.91 <= held / 400 <= 0.985


def test_pairing_takes_out_what_both_share() -> None:
    chance = np.random.default_rng(3)
    hard = chance.normal(0, 1.0, 1000)
    one, two = hard + chance.normal(0, 0.05, 1000), hard + 0.02 + chance.normal(0, 0.05, 1000)

    def blocks(values: np.ndarray) -> tuple[float, ...]:
        return pseudo_values(lambda rows: float(values[rows].mean()), 1000, float(values.mean()))

    value, low, high = paired_difference(blocks(one), blocks(two), float(two.mean() - one.mean()), RATE)
    assert low is not None and high is not None and 0 < low < 0.02 < high
    assert value == pytest.approx(0.02, abs=0.01)
    means = (5 + float(one.mean()), 5 + float(two.mean()))
    ratio = paired_ratio(blocks(5 + one), blocks(5 + two), means, RATE)
    assert ratio.low is not None and 1 < ratio.low < ratio.value


@pytest.mark.parametrize(("n", "value"), [(2 * BLOCKS - 1, 1.0), (100, math.nan)])
def test_too_few_samples_or_no_number(n: int, value: float) -> None:
    assert pseudo_values(lambda rows: value, n, 1.0) == ()
