"""What the gate promises about noise, by simulation: how often it cries wolf, and how rarely it sleeps."""

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from edgepress.gate.budget import Budget
from edgepress.gate.sequential import judge_sequentially
from edgepress.measure.record import Evidence, Measurement

Make = Callable[..., Evidence]

NOISE = 0.0266
MOST = 160


class Machine:
    """Times two models in turns; every sample carries 2.66 % noise. `correlation` is that of neighbouring rounds."""

    def __init__(self, make: Make, ratio: float, seed: int, correlation: float = 0.0) -> None:
        self._make, self.batches = make, []
        random = np.random.default_rng(seed)
        noise = random.standard_normal((2, MOST))
        for i in range(1, MOST):
            noise[:, i] = correlation * noise[:, i - 1] + math.sqrt(1 - correlation**2) * noise[:, i]
        self._times = np.array([[1.0], [ratio]]) * (1 + NOISE * noise)

    def measure(self, pairs: int) -> Evidence:
        self.batches.append(pairs)
        sides = [
            [Measurement(name="latency_ms", value=1.0, unit="ms", n=pairs, samples=tuple(row[:pairs].tolist()))]
            for row in self._times
        ]
        return self._make(*sides)


def outcomes(make: Make, ratio: float, limit: float, repeats: int, correlation: float = 0.0) -> dict[str, float]:
    budget = [Budget(metric="latency_ms", max_ratio=limit)]
    machines = (Machine(make, ratio, seed, correlation) for seed in range(repeats))
    found = Counter(judge_sequentially(m.measure, budget, most=MOST).judgement.outcome for m in machines)
    return {outcome: found[outcome] / repeats for outcome in ("pass", "fail", "inconclusive")}


def at_most(rate: float, repeats: int) -> float:
    """A bound that a frequency of true probability `rate` keeps in 99.9 % of simulations."""
    return rate + 3.1 * math.sqrt(rate * (1 - rate) / repeats)


@pytest.mark.slow
def test_equal_models_rarely_fail_even_at_the_very_limit(make_evidence: Make) -> None:
    """The worst case of a 5 % false-alarm rate: the limit allows no slowdown at all, and there is none."""
    repeats = 400
    found = outcomes(make_evidence, ratio=1.0, limit=1.0, repeats=repeats)
    assert found["fail"] <= at_most(0.05, repeats)
    assert found["pass"] <= at_most(0.05, repeats)  # nothing proves that it is not a hair slower
    assert found["inconclusive"] >= 0.85


@pytest.mark.slow
def test_equal_models_pass_a_limit_with_room(make_evidence: Make) -> None:
    found = outcomes(make_evidence, ratio=1.0, limit=1.02, repeats=100)
    assert found["pass"] >= 0.9
    assert found["fail"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1.0, 1.02, 1.03])
def test_a_five_per_cent_regression_is_caught(make_evidence: Make, limit: float) -> None:
    repeats = 100
    found = outcomes(make_evidence, ratio=1.05, limit=limit, repeats=repeats)
    assert found["fail"] >= 0.9
    assert found["pass"] == 0  # what is not caught is inconclusive


@pytest.mark.slow
def test_correlated_noise_does_not_triple_false_alarms(make_evidence: Make) -> None:
    """Neighbours correlated at 0.5 shrink the information threefold; a test blind to it fails one in five."""
    repeats = 200
    found = outcomes(make_evidence, ratio=1.0, limit=1.0, repeats=repeats, correlation=0.5)
    assert found["fail"] <= at_most(0.08, repeats)


def test_a_clear_case_ends_at_the_first_look(make_evidence: Make) -> None:
    machine = Machine(make_evidence, 1.5, seed=0)
    sampled = judge_sequentially(machine.measure, [Budget(metric="latency_ms", max_ratio=1.05)], most=MOST)
    assert machine.batches == [40]
    assert sampled.pairs == 40
    assert sampled.judgement.outcome == "fail"


def test_a_close_case_uses_the_whole_budget_and_says_what_is_missing(make_evidence: Make) -> None:
    machine = Machine(make_evidence, 1.05, seed=0)
    sampled = judge_sequentially(machine.measure, [Budget(metric="latency_ms", max_ratio=1.0495)], most=MOST)
    assert machine.batches == [40, 80, 160]
    assert sampled.judgement.outcome == "inconclusive"
    assert sampled.judgement.verdicts[0].more_samples


def test_time_ends_it_too(make_evidence: Make) -> None:
    machine, now = Machine(make_evidence, 1.05, seed=0), iter(range(0, 1000, 10))
    budget = [Budget(metric="latency_ms", max_ratio=1.0495)]
    sampled = judge_sequentially(machine.measure, budget, most=MOST, seconds=25.0, clock=lambda: float(next(now)))
    assert machine.batches == [40, 80]  # 10 s for 40 pairs, 20 s for 80: 160 would take about 40 s
    assert sampled.pairs == 80


def test_what_more_samples_cannot_decide_is_not_waited_for(make_evidence: Make) -> None:
    machine = Machine(make_evidence, 0.5, seed=0)
    budgets = [Budget(metric="latency_ms", max_ratio=1.0), Budget(metric="energy_mj", max=1.0)]
    sampled = judge_sequentially(machine.measure, budgets, most=MOST)
    assert machine.batches == [40]
    assert sampled.judgement.outcome == "inconclusive"
