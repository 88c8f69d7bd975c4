"""From scores and a budget to the units that stay."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgepress.analysis.channels import ChannelGroup

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
ROUNDS = 60  # costs of the remaining units are looked at again this often on the way to the budget


class Costs(Protocol):
    """A cost as a function of the units kept."""

    def total(self, keep: Mask) -> float:
        """The cost of the network that keeps these units."""

    def per_unit(self, keep: Mask) -> Floats:
        """What removing each single unit would save, the others staying as they are."""


@dataclass(frozen=True)
class Budget:
    """Costs that must come down to `fraction` of what they were before any pruning."""

    model: Costs
    limit: float

    def met(self, keep: Mask) -> bool:
        return self.model.total(keep) <= self.limit

    def excess(self, keep: Mask) -> float:
        """How far above the limit, relative to it."""
        return self.model.total(keep) / max(self.limit, 1e-30) - 1


@dataclass(frozen=True, eq=False)
class Bundle:
    """Units of one group that go together, so that what stays is a multiple of the rounding."""

    units: npt.NDArray[np.int64]
    score: float


def bundles(group: ChannelGroup, scores: Floats, round_to: int, minimum: int) -> list[Bundle]:
    """What may be removed from a group, in order: least important first, the last `minimum` units never.

    The first bundle brings the group to a multiple of `round_to`; a group smaller than that goes unit by unit.
    """
    order = group.first + np.argsort(scores[group.first : group.first + group.size], kind="stable")
    step = round_to if group.size >= round_to else 1
    least = -(-max(minimum, group.least, step) // step) * step
    ends = range(1, group.size + 1) if step == 1 else range(group.size % step or step, group.size + 1, step)
    starts = [0, *ends[:-1]]
    return [
        Bundle(order[a:b], float(scores[order[a:b]].sum()))
        for a, b in zip(starts, ends, strict=True)
        if group.size - b >= least
    ]


def allocate_global(
    groups: Sequence[ChannelGroup], scores: Floats, budgets: Sequence[Budget], round_to: int, minimum: int
) -> Mask:
    """Remove the bundles with the lowest score per saved cost until every budget is met or nothing is left."""
    keep = np.ones(len(scores), bool)
    queues = [bundles(group, scores, round_to, minimum) for group in groups]
    while not all(b.met(keep) for b in budgets) and any(queues):
        worst = max(budgets, key=lambda b: b.excess(keep))
        _remove_some(keep, queues, worst)
    return keep


def _remove_some(keep: Mask, queues: list[list[Bundle]], budget: Budget) -> None:
    """One round: the cheapest bundles, as many as close a fraction of the gap (at least one)."""
    saved = budget.model.per_unit(keep)
    ranked = sorted(
        (rank, number, place) for number, queue in enumerate(queues) for place, rank in enumerate(_ranks(queue, saved))
    )
    total = budget.model.total(keep)
    step = max((total - budget.limit), 0) if total - budget.limit < total / ROUNDS else total / ROUNDS
    done = 0.0
    for _, number, _ in ranked:
        if done >= step and done > 0:
            break
        bundle = queues[number].pop(0)
        done += max(float(saved[bundle.units].sum()), 1e-9 * max(total, 1))
        keep[bundle.units] = False


def _ranks(queue: Sequence[Bundle], saved: Floats) -> list[float]:
    """Score per saved cost, never falling along the queue: a bundle cannot go before those ahead of it."""
    ranks = [b.score / max(float(saved[b.units].sum()), 1e-30) for b in queue]
    return np.maximum.accumulate(ranks).tolist() if ranks else []


def allocate_uniform(
    groups: Sequence[ChannelGroup], scores: Floats, budgets: Sequence[Budget], round_to: int, minimum: int
) -> Mask:
    """The smallest common fraction of every group that meets the budgets (bisection)."""
    queues = [bundles(group, scores, round_to, minimum) for group in groups]
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        if all(b.met(_remove_fraction(len(scores), groups, queues, middle)) for b in budgets):
            high = middle
        else:
            low = middle
    return _remove_fraction(len(scores), groups, queues, high)


def _remove_fraction(
    units: int, groups: Sequence[ChannelGroup], queues: Sequence[Sequence[Bundle]], fraction: float
) -> Mask:
    keep = np.ones(units, bool)
    for group, queue in zip(groups, queues, strict=True):
        gone = 0
        for bundle in queue:
            if gone + len(bundle.units) > fraction * group.size + 1e-9:
                break
            keep[bundle.units] = False
            gone += len(bundle.units)
    return keep
