"""Least squares that hears what the network hears.

For rows x, goals z and present values z' the change (Δ, δ) of a layer minimises ‖ z - z' - (Δ x + δ) ‖² + λ ‖Δ‖².
Where a rectifier follows, all values below zero are one (refit after the nonlinearity: Zhang et al. 2016, "Accelerating
very deep convolutional networks for classification and detection", eq. 4). The one-sided error of such rows is
minimised by majorisation: each round puts in place of z the value nearest to the present prediction that is heard like
z, and solves again; the matrix of the system stays, only its right-hand side changes. Predictions run ahead by
Nesterov's momentum (Beck & Teboulle 2009, "FISTA", eq. 4.2).
"""

from collections.abc import Iterable
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
    system = System.of(rows, with_shift)
    found = before = system.solve(*_right_side(rows))
    if heard is None:
        return found
    for number in range(ROUNDS):
        momentum = number / (number + 3)
        ahead = [now + momentum * (now - then) for now, then in zip(found, before, strict=True)]
        before, found = found, system.solve(*_right_side(_as_heard(rows, heard, *ahead)))
    return found


def _as_heard(rows: Iterable[Row], heard: Range, delta: Tensor, shift: Tensor) -> Iterable[Row]:
    for x, goal, now in rows:
        predicted = now + x @ delta.mT.to(x.dtype) + shift[:, None].to(x.dtype)
        yield x, heard.nearest(goal, predicted), now


def _right_side(rows: Iterable[Row]) -> tuple[Tensor, Tensor]:
    """E[x yᵀ] (groups, in, out) and E[y] (groups, out) of what is missing, y = z - z'."""
    cross, total, count = torch.zeros(()), torch.zeros(()), 0
    for x, goal, now in rows:
        y = goal - now
        cross = cross + (x.mT @ y).double()
        total = total + y.sum(1).double()
        count += x.shape[1]
    return cross / count, total / count


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
    def of(cls, rows: Iterable[Row], with_shift: bool) -> "System":
        """A shift takes the means out of both sides."""
        gram, total, count = torch.zeros(()), torch.zeros(()), 0
        for x, _, _ in rows:
            gram = gram + (x.mT @ x).double()
            total = total + x.sum(1).double()
            count += x.shape[1]
        gram, mean = gram / count, total / count
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
