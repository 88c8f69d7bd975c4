"""How much the loss rises when one group alone loses part of its channels: what allocation by sensitivity reads."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgepress.analysis.channels import ChannelGroup, ChannelGroups, channel_groups
from edgepress.analysis.execute import execute
from edgepress.ir.program import Program
from edgepress.passes.cut_channels import Mask, atoms_kept
from edgepress.prune.evidence import Batch, Evidence, Loss, unit_scores
from edgepress.prune.tally import Scores

RATIOS = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Sensitivity:
    """One row: `group` without the `ratio` least important of its units has a loss higher by `rise`."""

    group: str
    units: int
    ratio: float
    rise: float


@dataclass(frozen=True)
class SensitivityTable:
    """Loss of the network as it is, and its rise per group and ratio."""

    loss: float
    rows: tuple[Sensitivity, ...]

    def rise(self, group: str, ratio: float) -> float:
        return next(row.rise for row in self.rows if (row.group, row.ratio) == (group, ratio))

    def to_json(self) -> dict[str, Any]:
        return {"loss": self.loss, "rows": [asdict(row) for row in self.rows]}

    def to_text(self) -> str:
        """One line per group, one column per ratio; the darker the block, the higher the rise."""
        ratios = sorted({row.ratio for row in self.rows})
        names = list(dict.fromkeys(row.group for row in self.rows))
        width = max(map(len, names), default=5)
        highest = max((row.rise for row in self.rows), default=0.0)
        lines = [f"{'group':{width}}  " + "".join(f"{f'-{r:.0%}':>12}" for r in ratios)]
        for name in names:
            cells = (self.rise(name, r) for r in ratios)
            lines.append(f"{name:{width}}  " + "".join(f"{c:>+10.4f} {_shade(c, highest)}" for c in cells))
        return "\n".join(lines)


def _shade(value: float, highest: float) -> str:
    share = max(value, 0.0) / highest if highest > 0 else 0.0
    return " ░▒▓█"[min(int(share**0.5 * 5), 4)]


def sensitivity(
    program: Program,
    batches: Iterable[Batch],
    loss: Loss,
    *,
    criterion: str = "activation_taylor",
    ratios: Sequence[float] = RATIOS,
    groups: ChannelGroups | None = None,
) -> SensitivityTable:
    """Zero the least important part of each group in turn and measure the loss; nothing is refitted.

    Args:
        batches: labelled data, read once per group and ratio.
        criterion: how units are ordered within a group.
    """
    batches = list(batches)
    groups = groups or channel_groups(program)
    scores = unit_scores(criterion, Evidence(program, groups, batches, loss))

    def loss_of(keep: Mask) -> float:
        return _mean_loss(program, zeroed_state(program, groups, keep), batches, loss)

    before = loss_of(np.ones(groups.units, bool))
    rows = [
        Sensitivity(group.name, group.size, ratio, loss_of(_least(groups, group, scores, ratio)) - before)
        for group in groups.groups
        for ratio in ratios
    ]
    return SensitivityTable(before, tuple(rows))


def _least(groups: ChannelGroups, group: ChannelGroup, scores: Scores, ratio: float) -> Mask:
    """The units kept when the group loses its least important `ratio`; one stays at least."""
    count = min(round(ratio * group.size), group.size - 1)
    order = group.first + np.argsort(scores[group.first : group.first + group.size], kind="stable")
    keep = np.ones(groups.units, bool)
    keep[order[:count]] = False
    return keep


def zeroed_state(program: Program, groups: ChannelGroups, keep: Mask) -> dict[str, Tensor]:
    """Weights with everything that a cut would remove set to zero; shapes stay."""
    atoms = atoms_kept(groups, keep)
    state = {name: tensor.detach() for name, tensor in program.state().items()}
    for name, dims in groups.tensors.items():
        for position, dim in enumerate(dims):
            if not atoms[dim].all():
                mask = torch.from_numpy(atoms[dim]).reshape([-1 if p == position else 1 for p in range(len(dims))])
                state[name] = state[name] * mask
    return state


def _mean_loss(program: Program, state: Any, batches: list[Batch], loss: Loss) -> float:
    with torch.no_grad():
        values = [float(loss(execute(program, i, state=state), t)) * len(t) for i, t in batches]
    return sum(values) / max(sum(len(t) for _, t in batches), 1)


def weighted(groups: ChannelGroups, scores: Scores, table: SensitivityTable, ratio: float = 0.5) -> Scores:
    """Scores scaled per group so that those of its least important units add up to the measured rise."""
    result = scores.copy()
    for group in groups.groups:
        part = scores[group.first : group.first + group.size]
        least = np.sort(part)[: min(round(ratio * group.size), group.size - 1)]
        finite = least[np.isfinite(least)].sum()
        if finite > 0:
            result[group.first : group.first + group.size] = part / finite * max(table.rise(group.name, ratio), 1e-9)
    return result
