"""Pieces of lowering that several operators share: folded biases and factors per channel."""

import numpy as np

from edgepress.errors import UserError
from edgepress.exporters.c import graph as g
from edgepress.exporters.c.graph import Array


def spread(factor: g.Rescale, channels: int) -> tuple[Array, Array]:
    """(multiplier, right shift) per channel. A factor of zero keeps a right shift, so that fast paths may take it."""
    multiplier = np.resize(np.asarray(factor.multiplier, np.int64), channels)
    shift = np.resize(-np.asarray(factor.shift, np.int64), channels)
    return multiplier, np.where(multiplier == 0, np.maximum(shift, 2), shift)


def single(factor: g.Rescale, prefix: str = "") -> dict[str, int]:
    """One factor as struct fields."""
    multiplier, shift = spread(factor, 1)
    return {f"{prefix}multiplier": int(multiplier[0]), f"{prefix}shift": int(shift[0])}


def folded(name: str, weight: Array, bias: Array, zero_point: int, largest: int = 128) -> Array:
    """bias - zero point * sum of weights: the kernels multiply raw inputs. Refuses sums that int32 cannot hold.

    weight: [O, ...]. largest: of the absolute inputs.
    """
    flat = weight.astype(np.int64).reshape(weight.shape[0], -1)
    whole = bias - zero_point * flat.sum(axis=1)
    reach = np.abs(whole) + largest * np.abs(flat).sum(axis=1)
    if reach.max(initial=0) >= 2**31:
        raise UserError(
            f"{name}: the sum of products may leave 32 bits",
            found=f"up to {reach.max()} in channel {reach.argmax()}",
            expected="below 2147483648",
            fix="quantize this layer with larger scales, or split its input channels",
        )
    return whole
