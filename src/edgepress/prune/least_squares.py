"""Least squares that hears what the network hears.

For rows x, goals z and present values z' the change (Δ, δ) of a layer minimises ‖ z - z' - (Δ x + δ) ‖² + λ ‖Δ‖².
Where a rectifier follows, all values below zero are one (refit after the nonlinearity: Zhang et al. 2016, "Accelerating
very deep convolutional networks for classification and detection", eq. 4). The one-sided error of such rows is
minimised by majorisation: each round puts in place of z the value nearest to the present prediction that is heard like
z, and solves again; the matrix of the system stays, only its right-hand side changes. Predictions run ahead by
Nesterov's momentum (Beck & Teboulle 2009, "FISTA", eq. 4.2).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from edgepress.prune.heard import Range

Row = tuple[Tensor, Tensor, Tensor]
"""(groups, rows, in) that a layer reads, and (groups, rows, out) of the goal and of the present values."""

ROUNDS = 4  # more change little
RIDGE = 1e-4  # relative to the mean of the Gram matrix' diagonal


def fit(rows: Iterable[Row], heard: Range | None, with_shift: bool) -> tuple[Tensor, Tensor]:
    """Δ (groups, out, in) and δ (groups, out), float64; δ is zero without `with_shift`.

    Args:
        rows: read several times. heard: what of the values is read on, None for all.
    """
    gram, mean, *right = _means(rows, lambda x, y: (x.mT @ x, x.sum(1), x.mT @ y, y.sum(1)))
    system = System.of(gram, mean, with_shift)
    found = before = system.solve(*right)
    if heard is None:
        return found
    for number in range(ROUNDS):
        momentum = number / (number + 3)
        ahead = [now + momentum * (now - then) for now, then in zip(found, before, strict=True)]
        right = _means(_as_heard(rows, heard, *ahead), lambda x, y: (x.mT @ y, y.sum(1)))
        before, found = found, system.solve(*right)
    return found


def _as_heard(rows: Iterable[Row], heard: Range, delta: Tensor, shift: Tensor) -> Iterable[Row]:
    for x, goal, now in rows:
        predicted = now + x @ delta.mT.to(x.dtype) + shift[:, None].to(x.dtype)
        yield x, heard.nearest(goal, predicted), now


def _means(rows: Iterable[Row], sums: Callable[[Tensor, Tensor], tuple[Tensor, ...]]) -> list[Tensor]:
    """Means over all rows, float64, of what is summed over the rows of x and of what is missing, y = z - z'."""
    totals: list[Tensor] = []
    count = 0
    for x, goal, now in rows:
        parts = [part.double() for part in sums(x, goal - now)]
        totals = [total + part for total, part in zip(totals, parts, strict=True)] if totals else parts
        count += x.shape[1]
    return [total / count for total in totals]


@dataclass(frozen=True)
class System:
    """Normal equations, for any number of right-hand sides.

    Attributes:
        factor, pivots: LU factors of the covariance (or second moments) of x with its ridge, which rounding may have
            left a little indefinite. mean: of x (groups, in).
    """

    factor: Tensor
    pivots: Tensor
    mean: Tensor
    with_shift: bool

    @classmethod
    def of(cls, gram: Tensor, mean: Tensor, with_shift: bool) -> "System":
        """From E[x xᵀ] (groups, in, in) and E[x] (groups, in); a shift takes the means out of both sides."""
        if with_shift:
            gram = gram - mean[:, :, None] * mean[:, None, :]
        ridge = RIDGE * gram.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12)
        eye = torch.eye(gram.shape[1], dtype=gram.dtype)
        factor, pivots = torch.linalg.lu_factor(gram + ridge[:, None, None] * eye)
        return cls(factor, pivots, mean, with_shift)

    def solve(self, cross: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """Δ (groups, out, in), δ (groups, out) of E[x yᵀ] and E[y]."""
        if not self.with_shift:
            return torch.linalg.lu_solve(self.factor, self.pivots, cross).mT, torch.zeros_like(mean)
        centred = cross - self.mean[:, :, None] * mean[:, None, :]
        solution = torch.linalg.lu_solve(self.factor, self.pivots, centred)
        return solution.mT, mean - (self.mean[:, None, :] @ solution)[:, 0]
