"""A decision about channels as data: which units of which group are kept."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepress.analysis.channels import ChannelGroups
from edgepress.analysis.pruning_terms import Attention
from edgepress.errors import UserError


@dataclass(frozen=True)
class ChannelPlan:
    """Which channels stay. Groups that are not named keep all.

    Attributes:
        kept: group name -> indices of the units that stay, ascending. sizes: group name -> units before the cut.
        attention: what attention loses; see `channel_groups`.
    """

    kept: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    attention: Attention = "heads"

    @property
    def removed(self) -> int:
        """Number of units that go."""
        return sum(self.sizes[name] - len(kept) for name, kept in self.kept.items())

    def to_json(self) -> dict[str, Any]:
        kept = {name: list(kept) for name, kept in self.kept.items()}
        return {"kept": kept, "sizes": dict(self.sizes), "attention": self.attention}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ChannelPlan":
        return cls({name: tuple(kept) for name, kept in data["kept"].items()}, dict(data["sizes"]), data["attention"])

    @classmethod
    def from_mask(cls, groups: ChannelGroups, keep: npt.NDArray[np.bool_]) -> "ChannelPlan":
        """The plan that keeps the units where `keep` (one entry per unit) is true."""
        cut = [g for g in groups.groups if not keep[g.first : g.first + g.size].all()]
        kept = {g.name: tuple(np.flatnonzero(keep[g.first : g.first + g.size]).tolist()) for g in cut}
        return cls(kept, {g.name: g.size for g in cut}, groups.attention)

    def mask(self, groups: ChannelGroups) -> npt.NDArray[np.bool_]:
        """Per unit of `groups`: does it stay?

        Raises:
            UserError: the plan names groups or sizes that this program does not have.
        """
        by_name = {group.name: group for group in groups.groups}
        keep = np.ones(groups.units, bool)
        for name, kept in self.kept.items():
            group = by_name.get(name)
            fits = group is not None and group.size == self.sizes[name] and max(kept, default=group.size) < group.size
            if group is None or not fits or len(kept) < group.least:
                raise UserError(
                    f"the channel plan does not fit: group {name}",
                    found=f"{group.size} units" if group else "no such group",
                    expected=f"{self.sizes.get(name)} units, at least {group.least if group else 1} kept",
                    fix="make the plan again for this program",
                )
            keep[group.first : group.first + group.size] = False
            keep[[group.first + unit for unit in kept]] = True
        return keep

    def to_text(self) -> str:
        """One line per group: units kept of all."""
        width = max((len(name) for name in self.kept), default=0)
        lines = [f"{n:{width}}  {len(k):5d} of {self.sizes[n]:5d}" for n, k in self.kept.items()]
        return "\n".join(lines) if lines else "nothing is cut"
