"""From ranges to scales: the affine grid real = (integer - zero_point) * scale."""

import math

import numpy as np
import torch

from edgepress.ir.float8_ops import LARGEST, to_float8
from edgepress.ir.quant_plan import Grid, WeightPoint
from edgepress.targets.capability import Format

SMALLEST_SCALE = 2.0**-60  # far below any activation that matters, far above float32's subnormals


def grid_of(form: Format, bits: int | None = None) -> Grid:
    """The integer grid of a format; `bits` overrides its width.

    Symmetric signed grids leave out the lowest integer, so that -x is representable whenever x is.
    """
    if form.dtype == "float8e4m3fn":
        return Grid(dtype=form.dtype, low=-int(LARGEST), high=int(LARGEST), symmetric=True)
    width = min(bits or form.bits, form.bits) - (1 if form.reduced_range else 0)
    if form.dtype == "uint8":
        return Grid(dtype="uint8", low=0, high=2**width - 1, symmetric=form.symmetric)
    top = 2 ** (width - 1)
    # Two-bit weights need the lowest integer: three levels instead of four would cost a quarter of the grid.
    low = -top if not form.symmetric or width <= 2 else -top + 1
    return Grid(dtype="int8", low=low, high=top - 1, symmetric=form.symmetric)


def grid_with_bits(grid: Grid, bits: int) -> Grid:
    """A symmetric grid of weights with another width, at most its own."""
    narrow = grid_of(Format(dtype="int8", symmetric=True), bits)
    return narrow if narrow.high < grid.high else grid


def affine(low: float, high: float, grid: Grid, *, power_of_two: bool = False) -> tuple[float, int]:
    """Scale and zero point that cover the range [low, high] and represent 0 exactly.

    A range that is a single point 0 gets scale 1. The scale is rounded to float32, which runtimes store.

    Raises:
        ValueError: a bound is not finite, or low > high.
    """
    if not (math.isfinite(low) and math.isfinite(high)) or low > high:
        raise ValueError(f"no range: {low} .. {high}")
    low, high = min(low, 0.0), max(high, 0.0)
    if grid.symmetric:
        return _scale(_symmetric_scale(low, high, grid), power_of_two), _middle(grid)
    scale = _scale((high - low) / grid.steps, power_of_two)
    return scale, int(np.clip(round(grid.low - low / scale), grid.low, grid.high))


def _symmetric_scale(low: float, high: float, grid: Grid) -> float:
    middle = _middle(grid)
    below = -low / (middle - grid.low) if middle > grid.low else 0.0
    return max(below, high / (grid.high - middle))


def _middle(grid: Grid) -> int:
    """The zero point of a symmetric grid: 0 for signed integers, 128 for unsigned ones."""
    return 0 if grid.low < 0 else (grid.high + 1) // 2


def _scale(scale: float, power_of_two: bool) -> float:
    if scale <= 0.0:
        return 1.0
    scale = max(scale, SMALLEST_SCALE)
    return float(np.float32(2.0 ** math.ceil(math.log2(scale)) if power_of_two else scale))


def channel_view(tensor: torch.Tensor, axis: int | None) -> torch.Tensor:
    """`tensor` as a matrix with one row per scale: (channels, rest), or (1, all)."""
    return tensor.reshape(1, -1) if axis is None else tensor.movedim(axis, 0).reshape(tensor.shape[axis], -1)


def spread(scales: torch.Tensor, like: torch.Tensor, axis: int | None) -> torch.Tensor:
    """One scale per channel, shaped to broadcast against `like`."""
    if axis is None:
        return scales.reshape(())
    shape = [1] * like.dim()
    shape[axis] = -1
    return scales.reshape(shape)


def weight_scales(tensor: torch.Tensor, axis: int | None, grid: Grid) -> torch.Tensor:
    """Largest magnitude per channel divided by the largest integer, float32.

    A channel of zeros takes the median scale of the others: its bias still needs a sensible step.
    """
    reach = channel_view(tensor.detach(), axis).abs().amax(1).double()
    scales = reach / max(grid.high, 1)
    alive = scales[scales > SMALLEST_SCALE]
    filler = alive.median() if len(alive) else torch.tensor(1.0, dtype=torch.float64)
    return torch.where(scales > SMALLEST_SCALE, scales, filler).float()


def integers(tensor: torch.Tensor, scales: torch.Tensor, axis: int | None, grid: Grid) -> torch.Tensor:
    """Nearest integers of `tensor` on the grid, ties to even, as floats."""
    return nearest(tensor / spread(scales, tensor, axis), grid)


def nearest(steps: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Values in units of the scale, rounded to the nearest number of the grid, as floats."""
    if grid.dtype == "float8e4m3fn":
        return to_float8(steps).to(steps.dtype)
    return torch.clamp(torch.round(steps), grid.low, grid.high)


def on_grid(tensor: torch.Tensor, scales: torch.Tensor, axis: int | None, grid: Grid) -> torch.Tensor:
    """`tensor` rounded to the nearest representable value: the error of storing it."""
    return integers(tensor, scales, axis, grid) * spread(scales, tensor, axis)


def as_blocks(tensor: torch.Tensor, block: int) -> torch.Tensor:
    """A matrix (rows, columns) as (rows x columns / block, block): one row per scale."""
    return tensor.reshape(-1, block)


def point_scales(tensor: torch.Tensor, point: WeightPoint) -> torch.Tensor:
    """Min-max scales of a weight in the layout of its point (see `weight_scales`)."""
    if point.block is None:
        return weight_scales(tensor, point.axis, point.grid)
    return weight_scales(as_blocks(tensor, point.block), 0, point.grid)


def weight_integers(tensor: torch.Tensor, point: WeightPoint) -> torch.Tensor:
    """Nearest integers of a weight on its point's grid, as floats; min-max scales where the point has none yet."""
    scales = torch.tensor(point.scales) if point.scales else point_scales(tensor, point)
    if point.block is None:
        return integers(tensor, scales, point.axis, point.grid)
    return integers(as_blocks(tensor, point.block), scales, 0, point.grid).reshape(tensor.shape)


def rounded_weight(tensor: torch.Tensor, point: WeightPoint) -> torch.Tensor:
    """A weight as its point stores it: rounded to the nearest representable values."""
    scales = torch.tensor(point.scales) if point.scales else point_scales(tensor, point)
    if point.block is None:
        return on_grid(tensor, scales, point.axis, point.grid)
    return on_grid(as_blocks(tensor, point.block), scales, 0, point.grid).reshape(tensor.shape)
