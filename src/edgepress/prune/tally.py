"""From the saliencies of tensors to one score per unit: aggregation over what goes together, and a scale per group.

A unit removes a slice of several tensors (a filter, its batch norm, the columns that read it). Its share of one tensor
is always the sum over that slice; how the shares of the tensors become one score is an option, as in DepGraph (Fang et
al. 2023, sec. 3.3, "group-level importance").
"""

from collections.abc import Callable, Hashable, Mapping

import numpy as np
import numpy.typing as npt
from torch import Tensor

from edgepress.analysis.channels import ChannelGroups

Scores = npt.NDArray[np.float64]


class Tally:
    """Shares per unit, collected tensor by tensor."""

    def __init__(self, units: int) -> None:
        self._units = units
        self._shares: dict[Hashable, tuple[npt.NDArray[np.int64], Scores]] = {}

    def add(self, source: Hashable, units: npt.NDArray[np.int64], values: Tensor) -> None:
        """Add the values of a tensor's positions to the units at them (negative: none); again for each batch.

        Args:
            source: names the tensor.
        """
        free = units >= 0
        found, place = np.unique(units[free], return_inverse=True)
        shares: Scores = np.zeros(len(found))
        np.add.at(shares, place, values.detach().double().cpu().numpy()[free])
        known = self._shares.get(source)
        self._shares[source] = (found, shares if known is None else known[1] + shares)

    def scores(self, aggregation: str) -> Scores:
        """One score per unit; 0 where nothing was said of it."""
        if aggregation == "max":
            return self._reduced(np.maximum.at, 0.0)
        total = self._reduced(np.add.at, 0.0)
        if aggregation == "sum":
            return total
        count = np.zeros(self._units)
        for units, _ in self._shares.values():
            count[units] += 1
        if aggregation == "mean":
            return total / np.maximum(count, 1)
        product = self._reduced(np.multiply.at, 1.0)  # "product": the geometric mean, fair to units of many tensors
        return np.where(count > 0, np.maximum(product, 0) ** (1 / np.maximum(count, 1)), 0.0)

    def _reduced(self, combine: Callable[[Scores, npt.NDArray[np.int64], Scores], None], start: float) -> Scores:
        result = np.full(self._units, start)
        for units, shares in self._shares.values():
            combine(result, units, shares)
        return result


def normalized(groups: ChannelGroups, scores: Scores, normalization: str) -> Scores:
    """Scores on the scale of their group: divided by its mean (as DepGraph does), sum or largest, or standardised.

    `standard` is (score - mean) / deviation, then moved so that the smallest is 0: scores per cost need a sign.
    """
    if normalization == "none":
        return scores
    result = scores.copy()
    for group in groups.groups:
        part = slice(group.first, group.first + group.size)
        result[part] = SCALES[normalization](result[part])
    return result


SMALLEST = 1e-30
SCALES: Mapping[str, Callable[[Scores], Scores]] = {
    "mean": lambda s: s / max(float(s.mean()), SMALLEST),
    "sum": lambda s: s / max(float(s.sum()), SMALLEST),
    "max": lambda s: s / max(float(s.max()), SMALLEST),
    "standard": lambda s: (s - s.min()) / max(float(s.std()), SMALLEST),
}
