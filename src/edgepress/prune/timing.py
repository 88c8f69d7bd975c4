"""Budgets on measured latency: a table of what each group's channels cost on the target, and a search that measures.

The table orders what to cut; the budget itself is met by measuring the cut network, for times of parts do not add up.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgepress.analysis.channel_plan import ChannelPlan
from edgepress.analysis.channels import ChannelGroup, ChannelGroups
from edgepress.analysis.planned_costs import Floats, Mask, cost_model
from edgepress.errors import UserError
from edgepress.ir.program import Program
from edgepress.passes.cut_channels import cut_channels
from edgepress.prune.allocate import Budget
from edgepress.prune.options import PruneOptions

Stopwatch = Callable[[Program], float]
"""Measured latency of a program divided by that of the program to be pruned, the two taken in turns."""
Choose = Callable[[Sequence[tuple[str, Budget]]], Mask]

TOLERANCE = 0.05  # how far below the budget the measured latency may end, relative
TRIES = 10
DETOURS = 7  # the first search, and those around channels that save too much at once
LOOKS = 3  # at a network whose time is near the budget
LEAST_BENEFIT = 0.1  # of what a unit saves on average by its MACs: a benefit lost in noise is not nothing


@dataclass(frozen=True, eq=False)
class TimeTable:
    """Latency relative to the original as a sum over units. Same questions as `CostModel`.

    Attributes:
        saved: by each unit. eagerness: factors on that in the order of removal alone.
    """

    saved: Floats
    eagerness: Floats | float = 1.0

    def total(self, keep: Mask) -> float:
        """The latency, 1 for all units; a model for ordering, not a measurement."""
        return 1.0 - float(self.saved[~keep].sum())

    def per_unit(self, keep: Mask) -> Floats:
        """What removing each unit saves, in the eyes of those who rank them."""
        return self.saved * self.eagerness

    def last(self, units: Mask) -> "TimeTable":
        """The same, but these units go after all others."""
        return replace(self, eagerness=np.where(units, 0.0, self.eagerness))

    def first(self, units: Mask) -> "TimeTable":
        """The same, but these units go as soon as those ahead of them in their groups are gone."""
        return replace(self, eagerness=np.where(units, 1e9, self.eagerness))


def time_table(
    program: Program, groups: ChannelGroups, free: Sequence[ChannelGroup], round_to: int, stopwatch: Stopwatch
) -> TimeTable:
    """Measure what halving each kind of group saves; groups of equal size and equal MACs are one kind.

    Halving all groups of a kind at a time gives differences large enough to be told from noise.
    """
    everything = np.ones(groups.units, bool)
    macs = cost_model(program, groups, "macs").per_unit(everything)
    kinds: dict[tuple[int, int], list[ChannelGroup]] = {}
    for group in free:
        kinds.setdefault((group.size, round(float(macs[group.first]))), []).append(group)
    saved = np.zeros(groups.units)
    for kind in kinds.values():
        keep = _halved(groups, kind, round_to)
        gain = 1.0 - stopwatch(cut_channels(program, ChannelPlan.from_mask(groups, keep), groups).program)
        each = max(gain, 0.0) / max(int((~keep).sum()), 1)
        for group in kind:
            saved[group.first : group.first + group.size] = each
    fair = macs / max(float(cost_model(program, groups, "macs").total(everything)), 1e-30)
    return TimeTable(np.maximum(saved, LEAST_BENEFIT * fair))


def _halved(groups: ChannelGroups, kind: Sequence[ChannelGroup], round_to: int) -> Mask:
    keep = np.ones(groups.units, bool)
    for group in kind:
        left = max(group.size // 2 // round_to * round_to, min(round_to, group.size - 1), 1)
        keep[group.first + left : group.first + group.size] = False
    return keep


def meet_latency(
    program: Program,
    groups: ChannelGroups,
    free: Sequence[ChannelGroup],
    options: PruneOptions,
    stopwatch: Stopwatch | None,
    choose: Choose,
) -> Mask:
    """The units to keep for a measured latency of at most, and at least 95 % of, the budget where channels allow it.

    Raises:
        UserError: no way to measure was given, or the budget is out of reach; says how far the network comes.
    """
    if stopwatch is None:
        raise UserError(
            "prune.reduce.latency needs a way to measure",
            found="no stopwatch",
            expected="a function that gives the latency of a program relative to the original",
            fix="use the recipe, which measures on its target, or pass `stopwatch`",
        )
    goal = 1 - options.reduce["latency"]
    table = time_table(program, groups, free, options.round_to, stopwatch)
    return _Search(program, groups, table, goal, stopwatch, choose).run()


@dataclass(frozen=True, eq=False)
class _Cut:
    """A trial. `modelled` by the table's sum, `measured` by the stopwatch."""

    keep: Mask
    modelled: float
    measured: float


@dataclass
class _Search:
    """Bisection and secants on the table's limit, the measured latency as the function."""

    program: Program
    groups: ChannelGroups
    table: TimeTable
    goal: float
    stopwatch: Stopwatch
    choose: Choose

    def run(self) -> Mask:
        """The slowest network found that is fast enough.

        Where the next channels to go save too much at once (a residual stream of 16 becomes one of 8), the search is
        made again with them behind all others, and with them ahead of all others and fewer of these.

        Raises:
            UserError: no cut is fast enough.
        """
        best, waiting = None, [self.table]
        for _ in range(DETOURS):
            if not waiting or (best is not None and self._near(best)):
                break
            self.table = waiting.pop(0)
            try:
                slow, fast = self._close_in(self._fastest())
            except UserError:
                if best is None:
                    raise
                continue  # not in this order
            best = fast if best is None else max(best, fast, key=lambda cut: cut.measured)
            if (jump := slow.keep & ~fast.keep).any():
                waiting += [self.table.last(jump), self.table.first(jump)]
        assert best is not None
        return best.keep

    def _near(self, cut: _Cut) -> bool:
        return cut.measured >= self.goal * (1 - TOLERANCE)

    def _close_in(self, fast: _Cut) -> tuple[_Cut, _Cut]:
        """A network that is too slow and one that is fast enough: near the budget, or nothing between the two."""
        slow = _Cut(np.ones(self.groups.units, bool), 1.0, 1.0)
        for attempt in range(TRIES):
            if self._near(fast):
                break
            limit = _between(fast, slow, self.goal * (1 - TOLERANCE / 2), halve=attempt % 3 == 2)
            cut = self._try(limit, slow, fast)
            if cut is None:
                break
            slow, fast = (cut, fast) if cut.measured > self.goal else (slow, cut)
        return slow, fast

    def _try(self, limit: float, slow: _Cut, fast: _Cut) -> _Cut | None:
        """The cut to a limit; None if it is one of these two and so are the cuts on its other side."""
        for nearer in (limit, (limit + slow.modelled) / 2, (limit + fast.modelled) / 2):
            keep = self.choose([("latency", Budget(self.table, nearer))])
            if not any(np.array_equal(keep, known.keep) for known in (slow, fast)):
                return self._cut(keep)
        return None

    def _fastest(self) -> _Cut:
        """A network that is fast enough: the table's limit is lowered until one is, or nothing is left to cut."""
        limit, reached, last = self.goal, 1.0, -1
        while limit > -1:  # the table may know of less than there is to gain
            keep = self.choose([("latency", Budget(self.table, limit))])
            if (left := int(keep.sum())) == last:
                limit -= 0.1
                continue
            cut, last = self._cut(keep), left
            reached = min(reached, cut.measured)
            if cut.measured <= self.goal:
                return cut
            limit -= max(cut.measured - self.goal, 0.02)
        raise UserError(
            "prune.reduce.latency: the budget is out of reach",
            found=f"measured {1 - reached:.1%} less time at best",
            expected=f"{1 - self.goal:.1%}",
            fix="lower the budget, `minimum` or `round_to`, or allow more groups",
        )

    def _cut(self, keep: Mask) -> _Cut:
        """Measure it: the median of several looks where one could be taken for the other side of the budget.

        One look alone would do for a search, but the first that happens to lie in the window would end it: the noise
        of a measurement, and where memory fell this time, would then decide.
        """
        smaller = cut_channels(self.program, ChannelPlan.from_mask(self.groups, keep), self.groups).program
        looks = [self.stopwatch(smaller)]
        while len(looks) < LOOKS and abs(float(np.median(looks)) / self.goal - 1) < 2 * TOLERANCE:
            looks.append(self.stopwatch(smaller))
        return _Cut(keep, self.table.total(keep), float(np.median(looks)))


def _between(fast: _Cut, slow: _Cut, goal: float, halve: bool) -> float:
    """The modelled limit whose measured time should be `goal`: on the line through two cuts, or in their middle."""
    if halve or slow.measured <= fast.measured:
        return (fast.modelled + slow.modelled) / 2
    share = (goal - fast.measured) / (slow.measured - fast.measured)
    return fast.modelled + min(max(share, 0.05), 0.95) * (slow.modelled - fast.modelled)
