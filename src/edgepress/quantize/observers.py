"""Ranges of activations from a stream of batches, in memory that does not grow with the number of samples.

Every observer keeps the exact minimum and maximum; those that look at the distribution add one histogram of `BINS`
bins per tensor whose range doubles (pairs of bins merge) when a value falls outside it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from edgepress.ir.quant_plan import Grid
from edgepress.quantize.qparams import affine

BINS = 2048
# Beyond this many values per batch a regular subset is counted: the tails are exact through minimum and maximum.
COUNTED = 1 << 16
SAMPLED = 1 << 13
Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def in_memory_order(values: torch.Tensor) -> torch.Tensor:
    """All values as a vector, in the order they lie in memory: ten times faster to look through than by their axes."""
    if values.dim() == 4 and values.is_contiguous(memory_format=torch.channels_last):
        values = values.permute(0, 2, 3, 1)
    return values.detach().reshape(-1)


def regular_sample(flat: torch.Tensor, most: int) -> torch.Tensor:
    """About `most` of the values of a vector, or all of them if there are no more."""
    # An odd stride walks through all channels and positions instead of the same ones again and again.
    return flat[:: max(1, flat.numel() // most) | 1].float()


class NotFinite(ValueError):
    """A calibration tensor holds an infinity or a NaN."""


@dataclass
class Extremes:
    """Smallest and largest value seen so far, and how large values usually are: whether the range suits them."""

    low: float = math.inf
    high: float = -math.inf
    magnitudes: float = 0.0
    counted: int = 0

    def update(self, values: torch.Tensor) -> None:
        """Take in one batch.

        Raises:
            NotFinite: the batch holds an infinity or a NaN.
        """
        flat = in_memory_order(values)
        low, high = (float(v) for v in torch.aminmax(flat))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise NotFinite(f"values from {low} to {high}")
        self._take(low, high, flat)
        some = regular_sample(flat, SAMPLED)
        self.magnitudes += float(some.abs().sum())
        self.counted += len(some)

    @property
    def usual(self) -> float:
        """Mean magnitude of the values, which a few outliers hardly move."""
        return self.magnitudes / self.counted if self.counted else 0.0

    def _take(self, low: float, high: float, flat: torch.Tensor) -> None:
        self.low, self.high = min(self.low, low), max(self.high, high)

    def range(self, grid: Grid) -> tuple[float, float]:
        """The range to represent."""
        return self.low, self.high


@dataclass
class MovingAverage(Extremes):
    """Exponential average of the extremes of each batch (Jacob et al. 2018, section 3.1)."""

    momentum: float = 0.9

    def _take(self, low: float, high: float, flat: torch.Tensor) -> None:
        first = self.low > self.high
        keep = 0.0 if first else self.momentum
        self.low = low if first else keep * self.low + (1 - keep) * low
        self.high = high if first else keep * self.high + (1 - keep) * high


def _counts(values: torch.Tensor, reach: float) -> torch.Tensor:
    """How many of the values lie in each bin of [-reach, reach]; half the time of `torch.histc`."""
    bins = ((values + reach) * (BINS / (2 * reach))).int()
    return torch.bincount(bins.clamp_(0, BINS - 1), minlength=BINS)


@dataclass
class Histogram(Extremes):
    """Counts of values in [-reach, reach]; `clip` chooses the range from them."""

    clip: Callable[["Histogram", Grid], tuple[float, float]] = field(default=lambda h, grid: (h.low, h.high))
    counts: Array = field(default_factory=lambda: np.zeros(BINS))
    reach: float = 0.0

    def _take(self, low: float, high: float, flat: torch.Tensor) -> None:
        super()._take(low, high, flat)
        self._grow(max(-low, high))
        if self.reach == 0.0:
            return
        sample = regular_sample(flat, COUNTED)
        share = flat.numel() / max(1, len(sample))
        self.counts += _counts(sample, self.reach).double().numpy() * share

    def _grow(self, needed: float) -> None:
        if self.reach == 0.0:
            self.reach = needed
        while self.reach < needed:
            # [-r, r] becomes [-2r, 2r]: pairs of old bins fill the middle half of the new ones.
            merged = self.counts.reshape(-1, 2).sum(1)
            self.counts = np.pad(merged, BINS // 4)
            self.reach *= 2

    def centers(self) -> Array:
        """Middle of each bin."""
        width = 2 * self.reach / BINS
        return np.asarray(-self.reach + width * (np.arange(BINS) + 0.5), np.float64)

    def range(self, grid: Grid) -> tuple[float, float]:
        if self.counts.sum() == 0.0:
            return self.low, self.high
        low, high = self.clip(self, grid)
        return max(low, self.low), min(high, self.high)


def percentile(share: float) -> Callable[[Histogram, Grid], tuple[float, float]]:
    """Cut so that `share` of the values lie inside, half of the rest on each side.

    Zeros do not count: they are exact on any grid, and among many of them (one-hot inputs, masks, behind a ReLU) the
    few other values would be the tail.
    """

    def clip(histogram: Histogram, grid: Grid) -> tuple[float, float]:
        counts = histogram.counts.copy()
        counts[BINS // 2] = 0.0  # [0, one bin)
        if counts.sum() == 0.0:
            return histogram.low, histogram.high
        cumulated = np.cumsum(counts) / counts.sum()
        tail = (1.0 - share) / (2.0 if histogram.low < 0 < histogram.high else 1.0)
        width = 2 * histogram.reach / BINS
        low = int(np.searchsorted(cumulated, tail, side="right"))
        high = int(np.searchsorted(cumulated, 1.0 - tail, side="left"))
        low_edge = -histogram.reach + width * low if histogram.low < 0 else histogram.low
        high_edge = -histogram.reach + width * (high + 1) if histogram.high > 0 else histogram.high
        return low_edge, high_edge

    return clip


def least_squares(histogram: Histogram, grid: Grid) -> tuple[float, float]:
    """The range with the smallest mean squared error of rounding plus clipping, found on a grid of shrunken ranges.

    The same objective as OCTAV (Sakr et al. 2022, eq. 6), searched instead of iterated: it has several minima
    when zeros dominate, as after a ReLU.
    """
    centers, counts = histogram.centers(), histogram.counts
    width = 2 * histogram.reach / BINS
    centers[np.abs(centers) < width] = 0.0  # what a ReLU makes exactly 0 costs nothing on any grid
    occupied = counts > 0
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    shrink = np.concatenate([np.linspace(1.0, 0.3, 71), np.linspace(0.28, 0.02, 14)])
    # Both sides are cut at one magnitude: a long tail on one side leaves the other alone.
    candidates = [(max(low, -histogram.reach * s), min(high, histogram.reach * s)) for s in shrink]
    scales, zeros = np.array([affine(*candidate, grid) for candidate in candidates]).T
    errors = _squared_errors(centers[occupied], counts[occupied], scales, zeros, grid, width)
    return candidates[int(np.argmin(errors))]


def _squared_errors(centers: Array, counts: Array, scales: Array, zeros: Array, grid: Grid, width: float) -> Array:
    """Of each pair of scale and zero point."""
    scales, zeros = scales[:, None], zeros[:, None]
    integers = np.clip(np.round(centers / scales) + zeros, grid.low, grid.high)
    errors = np.square((integers - zeros) * scales - centers)
    # Steps finer than the bins: inside the range the error of rounding is uniform, scale^2 / 12.
    uniform = (scales < 2 * width) & (integers > grid.low) & (integers < grid.high) & (centers != 0.0)
    found: Array = np.where(uniform, np.square(scales) / 12, errors) @ counts
    return found


def entropy(histogram: Histogram, grid: Grid) -> tuple[float, float]:
    """The range whose quantized distribution is closest in Kullback-Leibler divergence (Migacz 2017).

    Values outside a candidate range pile up in its outermost bins, as they do on the target.
    """
    levels = grid.steps + 1
    edges = _candidate_bins(histogram, levels)
    best, best_divergence = (histogram.low, histogram.high), math.inf
    width = 2 * histogram.reach / BINS
    for first, last in edges:
        divergence = _divergence(histogram.counts, first, last, levels)
        if divergence < best_divergence:
            best = (-histogram.reach + width * first, -histogram.reach + width * last)
            best_divergence = divergence
    return best


def _candidate_bins(histogram: Histogram, levels: int) -> list[tuple[int, int]]:
    """Pairs (first, last) of bins that shrink towards 0 from the occupied range."""
    middle = BINS // 2
    occupied = np.flatnonzero(histogram.counts)
    below, above = max(0, middle - int(occupied[0])), max(0, int(occupied[-1]) + 1 - middle)
    reaches = [math.ceil(max(below, above) * s) for s in np.linspace(1.0, 0.1, 64)]
    pairs = [(middle - min(below, reach), middle + min(above, reach)) for reach in reaches]
    return [pair for pair in dict.fromkeys(pairs) if pair[1] - pair[0] >= levels // 2] or [pairs[0]]


def _divergence(counts: Array, first: int, last: int, levels: int) -> float:
    """KL(original with its tails piled up || original seen through `levels` steps)."""
    inside = counts[first:last]
    original = inside.copy()
    original[0] += counts[:first].sum()
    original[-1] += counts[last:].sum()
    step = np.arange(len(inside)) * levels // len(inside)
    mass = np.bincount(step, inside, levels)
    shared = np.bincount(step, inside > 0, levels)
    seen = np.where(inside > 0, (mass / np.maximum(shared, 1))[step], 0.0)
    p, q = original / original.sum(), seen / max(seen.sum(), 1e-12)
    here = p > 0
    return float((p[here] * np.log(p[here] / np.maximum(q[here], 1e-12))).sum())


def extremes(histogram: Histogram, grid: Grid) -> tuple[float, float]:
    """Nothing is cut."""
    return histogram.low, histogram.high


CLIPS: Mapping[str, Callable[[Histogram, Grid], tuple[float, float]]] = {
    "percentile": percentile(0.99995),
    "mse": least_squares,
    "entropy": entropy,
}
"""Ways to choose a range from a histogram."""
OBSERVERS: Mapping[str, Callable[[], Extremes]] = {
    "minmax": Extremes,
    "moving_average": MovingAverage,
    "auto": Histogram,
    **{name: partial(Histogram, clip=clip) for name, clip in CLIPS.items()},
}
"""Observers by the name recipes use."""
