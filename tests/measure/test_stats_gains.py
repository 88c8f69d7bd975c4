"""Gains: exact small cases, and how often the limits hold the truth."""

import numpy as np
import pytest

from edgepress.measure.stats.gains import gain_of_answers, gain_of_metrics, gain_of_runs
from edgepress.measure.stats.proportions import mcnemar_exact


def test_right_and_wrong_is_counted() -> None:
    with_it = np.array([1, 1, 1, 1, 0, 0, 1, 1], float)
    without = np.array([1, 0, 0, 0, 1, 0, 1, 0], float)
    gain = gain_of_answers(with_it, without)
    assert gain.value == pytest.approx(3 / 8)
    assert gain.p_value == pytest.approx(mcnemar_exact(4, 1))
    assert gain.low is not None and gain.high is not None and gain.low < 3 / 8 < gain.high
    mirrored = gain_of_answers(without, with_it)
    assert mirrored.value == -gain.value and mirrored.low == pytest.approx(-gain.high, abs=1e-6)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("spread", [0.0, 0.02])
def test_limits_hold_the_truth_often_enough(seeds: int, spread: float) -> None:
    random, held, trials = np.random.default_rng(0), 0, 300
    for _ in range(trials):
        base, effect = random.uniform(0.6, 0.8, size=200), 0.05 + (seeds > 1) * spread * random.normal(size=seeds)
        with_it = [(random.random(200) < base + e).astype(float) for e in effect]
        without = [(random.random(200) < base).astype(float) for _ in effect]
        value = float(np.mean(with_it) - np.mean(without))
        gain = gain_of_runs(value, with_it, without)
        held += gain.low <= 0.05 <= gain.high  # type: ignore[operator]
    assert held / trials >= 0.93


def test_metrics_that_are_no_means() -> None:
    assert gain_of_metrics([0.5], [0.4]) == (pytest.approx(0.1), None, None, None)
    gain = gain_of_metrics([0.5, 0.6, 0.55], [0.4, 0.48, 0.44])
    differences = np.array([0.1, 0.12, 0.11])
    reach = 4.3026527 * differences.std(ddof=1) / 3**0.5
    assert gain.low == pytest.approx(differences.mean() - reach) and gain.high == pytest.approx(0.11 + reach)
