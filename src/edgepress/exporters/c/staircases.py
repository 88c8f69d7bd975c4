"""Functions of exact sums: followed with every sum that can occur, written as a staircase of int8 values."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgepress.errors import UserError
from edgepress.exporters.c import graph as g
from edgepress.exporters.c.graph import Array
from edgepress.exporters.c.tables import Reals

MOST_SUMS = 2**20  # that a function is followed with; wider sums in buckets of 2**k of them
MOST_STEPS = 4096
LOWEST = -(2**31 - 1)


@dataclass(frozen=True, eq=False)
class Sum:
    """Sums that are not quantized yet.

    Attributes:
        names: the tensor that is summed, or the two whose products are. shape: of the result. scale: of one product.
        sums: the lowest integer of each bucket of sums, rising. width: of a bucket.
    """

    names: tuple[str, ...]
    loops: g.Loops
    shape: tuple[int, ...]
    scale: float
    sums: Array
    width: int = 1

    @property
    def reals(self) -> Reals:
        """The middle of each bucket."""
        return np.asarray((self.sums + (self.width - 1) / 2) * self.scale)


def buckets(zeros: Sequence[int], products: int, *, squares: bool) -> tuple[Array, int]:
    """(every sum that can occur or the lowest of each bucket, width of a bucket).

    zeros: zero points of what is multiplied, one or two. products: of one sum. squares: both are the same element.
    """
    ends = [np.array([-128, 127]) - zero for zero in zeros]
    reached = ends[0] if len(ends) == 1 else ends[0] ** 2 if squares else np.multiply.outer(*ends)
    low, high = (0 if squares else int(reached.min()) * products), int(reached.max()) * products
    width = 1
    while (high - low) // width >= MOST_SUMS:
        width *= 2
    return np.arange(low, high + 1, width), width


def staircase(label: str, sums: Array, codes: Array) -> g.Staircase:
    """int8 codes of rising sums as steps. Refuses functions with very many."""
    changes = np.flatnonzero(np.diff(codes)) + 1
    if len(changes) >= MOST_STEPS:
        found, fix = f"{len(changes) + 1} steps", "quantize the sum before the function"
        raise UserError(f"{label}: a function of a sum is too long", found=found, expected=f"{MOST_STEPS}", fix=fix)
    starts = (LOWEST, *(int(at) for at in sums[changes]))
    return g.Staircase(starts, tuple(int(code) for code in codes[[0, *changes]]))
