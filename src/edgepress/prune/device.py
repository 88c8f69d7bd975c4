"""Budgets on what a microcontroller needs: flash, arena, instructions. A gauge weighs cut networks; the least cut wins.

None of these is a sum over channels: kernels come in tiles, buffers share memory. Each is brought down by a cost that
can be computed and falls with it, and whether a cut is enough is always asked of the gauge.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgepress.analysis.channel_plan import ChannelPlan
from edgepress.analysis.channels import ChannelGroups
from edgepress.analysis.planned_costs import Mask
from edgepress.errors import UserError
from edgepress.ir.program import Program
from edgepress.passes.cut_channels import cut_channels
from edgepress.prune.allocate import Budget, Costs

Gauge = Callable[[Program], Mapping[str, float]]
"""What a network needs, each figure (a key of `LEVERS`) divided by its limit: 1 or less fits."""
Choose = Callable[[Sequence[tuple[str, Budget]]], Mask]

LEVERS = {"flash_bytes": "bytes", "arena_bytes": "activations", "instructions": "macs"}
"""Figure -> the computable cost that is cut to bring it down."""
STEPS = 7  # of the bisection: 1/128 of the way from nothing to all
ROUNDS = 6  # a cut for one figure may undo a little of what another needs


@dataclass
class DeviceSearch:
    """The smallest cut that fits.

    Attributes:
        costs: kind of cost -> its model. choose: budgets beside the recipe's -> units to keep.
    """

    program: Program
    groups: ChannelGroups
    gauge: Gauge
    costs: Callable[[str], Costs]
    choose: Choose
    known: dict[bytes, Mapping[str, float]] = field(default_factory=dict)

    def run(self) -> Mask:
        """The units to keep.

        Raises:
            UserError: not even the most that may be cut fits; says which figure stays how far above its limit.
        """
        shares: dict[str, float] = {}
        keep = self._keep(shares)
        for _ in range(ROUNDS):
            ratios = self._measured(keep)
            worst = max(ratios, key=lambda figure: ratios[figure])
            if ratios[worst] <= 1:
                return keep
            shares[worst] = self._bisected(worst, shares)
            keep = self._keep(shares)
        raise _out_of_reach(self._measured(keep))

    def _bisected(self, figure: str, shares: Mapping[str, float]) -> float:
        """The smallest share to take from the figure's lever, the others as given, that brings it to its limit."""
        low, high = shares.get(figure, 0.0), 1.0
        most = self._measured(self._keep({**shares, figure: high}))
        if most[figure] > 1:
            raise _out_of_reach(most)
        while high - low > 2.0**-STEPS:
            middle = (low + high) / 2
            fits = self._measured(self._keep({**shares, figure: middle}))[figure] <= 1
            low, high = (low, middle) if fits else (middle, high)
        return high

    def _keep(self, shares: Mapping[str, float]) -> Mask:
        everything = np.ones(self.groups.units, bool)
        models = {figure: self.costs(LEVERS[figure]) for figure in shares}
        limits = {figure: (1 - share) * models[figure].total(everything) for figure, share in shares.items()}
        return self.choose([(figure, Budget(models[figure], limits[figure])) for figure in shares])

    def _measured(self, keep: Mask) -> Mapping[str, float]:
        """Asked once per cut: neighbouring shares often leave the same channels."""
        key = keep.tobytes()
        if key not in self.known:
            plan = ChannelPlan.from_mask(self.groups, keep)
            self.known[key] = self.gauge(cut_channels(self.program, plan, self.groups).program)
        return self.known[key]


def _out_of_reach(ratios: Mapping[str, float]) -> UserError:
    worst = max(ratios, key=lambda figure: ratios[figure])
    return UserError(
        f"prune.budget: {worst} is out of reach",
        found=f"{ratios[worst]:.2f} times the limit after the deepest cut",
        expected="within the limit",
        fix="a wider limit, a lower `minimum` or `round_to`, or a smaller network",
    )
