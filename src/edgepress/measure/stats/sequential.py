"""Looking at growing data several times without raising the rate of false alarms.

A test that is repeated after every batch until it says what one hopes for errs far more often than its level claims.
Here each look spends a part of the error rate that was declared once, for all looks together (Lan & DeMets 1983,
Biometrika 70), so that clear cases end early and close ones use the whole sampling budget.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgepress.measure.stats.proportions import NORMAL, normal_quantile

Array = NDArray[np.float64]

GRID_POINTS = 601
TAIL = 8.0
"""Standard deviations of the path that are integrated; what lies beyond has probability below 1e-15."""


def look_sizes(first: int, most: int) -> list[int]:
    """Sample sizes to look at: doubling, so that the number of looks stays small; the last is `most`."""
    sizes = [first]
    while sizes[-1] * 2 <= most:
        sizes.append(sizes[-1] * 2)
    return sizes if sizes[-1] == most or most < first else [*sizes, most]


def spent(error_rate: float, fraction: float) -> float:
    """Part of the error rate that may be used up once `fraction` of the largest sample is in.

    Pocock-type spending, error_rate * ln(1 + (e - 1) t) (Lan & DeMets 1983): generous early, because in a gate time is
    dearer than the last per cent of power.
    """
    return error_rate * math.log1p((math.e - 1) * min(1.0, fraction))


def nominal_level(sizes: Sequence[int], most: int, error_rate: float, *, last: bool = False) -> float:
    """The one-sided level at which to test at the latest of several looks.

    Args:
        sizes: sample sizes of all looks so far, increasing.
        most: the largest sample size that was planned.
        last: no further look will follow (the time is over), for a reason other than the data: all is spent.

    Tests at each look at its level are together wrong with probability at most `error_rate`.
    """
    cumulative = [spent(error_rate, size / most) for size in sizes]
    if last:
        cumulative[-1] = error_rate
    return NORMAL.cdf(-boundaries(sizes, cumulative)[-1])


def boundaries(sizes: Sequence[int], cumulative: Sequence[float]) -> list[float]:
    """z-values of one-sided looks whose chance of any crossing under the null hypothesis is `cumulative` at each look.

    Recursive numerical integration of the path's density below the boundaries (Armitage, McPherson & Rowe 1969,
    J. R. Statist. Soc. A 132). With the sum of observations S at size n distributed N(0, n):
        density_k(s) = integral over u < b_(k-1) of density_(k-1)(u) * normal(s - u; n_k - n_(k-1)) du
    """
    bounds = [normal_quantile(cumulative[0]) * math.sqrt(sizes[0])]
    grid, density = _first_density(sizes[0], bounds[0])
    for look in range(1, len(sizes)):
        step = math.sqrt(sizes[look] - sizes[look - 1])
        bound = _solve_bound(grid, density, step, cumulative[look] - cumulative[look - 1])
        bounds.append(bound)
        grid, density = _next_density(grid, density, step, sizes[look], bound)
    return [bound / math.sqrt(size) for bound, size in zip(bounds, sizes, strict=True)]


def _first_density(size: int, bound: float) -> tuple[Array, Array]:
    grid = np.linspace(-TAIL * math.sqrt(size), bound, GRID_POINTS)
    return grid, _normal_density(grid, math.sqrt(size))


def _next_density(grid: Array, density: Array, step: float, size: int, bound: float) -> tuple[Array, Array]:
    wider = np.linspace(-TAIL * math.sqrt(size), bound, GRID_POINTS)
    kernel = _normal_density(wider[:, None] - grid[None, :], step)
    return wider, np.asarray(np.trapezoid(kernel * density, grid, axis=1))


def _solve_bound(grid: Array, density: Array, step: float, increment: float) -> float:
    """The bound that the path crosses at this look, and not before, with probability `increment`."""
    from scipy.special import ndtr

    low, high = 0.0, TAIL * (step + abs(float(grid[0])) / TAIL)
    while high - low > 1e-9 * step:
        middle = (low + high) / 2
        crossing = float(np.trapezoid(density * ndtr((grid - middle) / step), grid))
        low, high = (middle, high) if crossing > increment else (low, middle)
    return high


def _normal_density(x: Array, deviation: float) -> Array:
    density: Array = np.exp(-0.5 * (x / deviation) ** 2) / (deviation * math.sqrt(2 * math.pi))
    return density
