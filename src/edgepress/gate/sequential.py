"""A gate that measures until its verdict is clear, or until its time is over."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from edgepress.gate.budget import Budget
from edgepress.gate.judge import Reference, judge
from edgepress.gate.metrics import find, is_machine_bound
from edgepress.gate.verdict import Judgement
from edgepress.measure.record import Evidence

FIRST_LOOK = 40


class Sampled(NamedTuple):
    """The evidence at the last look, what it amounts to, and how many pairs it took."""

    evidence: Evidence
    judgement: Judgement
    pairs: int


def judge_sequentially(
    measure: Callable[[int], Evidence],
    budgets: Sequence[Budget],
    reference: Reference | None = None,
    *,
    most: int = 1280,
    seconds: float = 60.0,
    false_alarm_rate: float = 0.05,
    clock: Callable[[], float] = time.perf_counter,
) -> Sampled:
    """Measure in growing batches and stop at the first look that decides every limit which more samples could decide.

    Args:
        measure: called with a number of interleaved pairs, returns evidence with that many in all (earlier ones count).
        most: the largest number of pairs. seconds: no new batch is begun if it would likely end later than this.
        false_alarm_rate: as in `judge`, over all looks together.

    Raises:
        UserError: as `judge`.
    """
    from edgepress.measure.stats.sequential import look_sizes, nominal_level

    begin, sizes = clock(), look_sizes(FIRST_LOOK, most)
    for index, size in enumerate(sizes):
        evidence = measure(size)
        elapsed = clock() - begin
        last = size == sizes[-1] or elapsed * sizes[index + 1] / size > seconds
        looks = sizes[: index + 1]

        def level(rate: float, looks: list[int] = looks, last: bool = last) -> float:
            return nominal_level(looks, most, rate, last=last)

        judgement = judge(evidence, budgets, reference, false_alarm_rate=false_alarm_rate, level=level)
        if last or not _undecided(evidence, judgement):
            return Sampled(evidence, judgement, size)
    raise AssertionError("look_sizes is never empty")


def _undecided(evidence: Evidence, judgement: Judgement) -> bool:
    """Whether a limit is open that further pairs could close."""
    open_verdicts = [v for v in judgement.verdicts if v.outcome == "inconclusive" and v.more_samples is not None]
    measurements = (find(evidence.compressed, evidence, v.metric, v.target) for v in open_verdicts)
    return any(m is not None and is_machine_bound(m) for m in measurements)
