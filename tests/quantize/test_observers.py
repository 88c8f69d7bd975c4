import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepress.ir.quant_plan import Grid
from edgepress.quantize.observers import BINS, OBSERVERS, Histogram, NotFinite
from edgepress.quantize.qparams import affine

U8 = Grid(dtype="uint8", low=0, high=255, symmetric=False)
U4 = Grid(dtype="uint8", low=0, high=15, symmetric=False)


def error_of(values: torch.Tensor, low: float, high: float, grid: Grid) -> float:
    scale, zero = affine(low, high, grid)
    back = (torch.clamp(torch.round(values / scale) + zero, grid.low, grid.high) - zero) * scale
    return float((back - values).square().mean())


@pytest.mark.parametrize("name", OBSERVERS)
def test_ranges_lie_inside_what_was_seen(name: str) -> None:
    observer = OBSERVERS[name]()
    for seed in range(4):
        observer.update(torch.randn(1000, generator=torch.Generator().manual_seed(seed)) * (seed + 1))
    low, high = observer.range(U8)
    assert -20 < low < -1 and 1 < high < 20


@pytest.mark.parametrize("name", OBSERVERS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused(name: str, bad: float) -> None:
    with pytest.raises(NotFinite):
        OBSERVERS[name]().update(torch.tensor([0.0, bad, 1.0]))


@pytest.mark.parametrize("name", OBSERVERS)
@pytest.mark.parametrize("value", [0.0, 3.0, -2.5])
def test_constants_are_representable(name: str, value: float) -> None:
    observer = OBSERVERS[name]()
    observer.update(torch.full((100,), value))
    assert error_of(torch.tensor([value]), *observer.range(U8), U8) < 1e-4


@given(st.lists(st.floats(0.01, 1e6), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_histograms_lose_no_counts_when_they_grow(reaches: list[float]) -> None:
    observer = Histogram()
    for reach in reaches:
        observer.update(torch.linspace(-reach, reach, 501))
    assert observer.counts.sum() == pytest.approx(501 * len(reaches))
    assert len(observer.counts) == BINS and observer.reach >= max(reaches) * 0.999


def test_growth_keeps_the_distribution() -> None:
    values = torch.randn(20000, generator=torch.Generator().manual_seed(0))
    grown, direct = Histogram(), Histogram(reach=16.0 * 0.01)
    grown.update(torch.full((1,), 0.01))
    for observer in (grown, direct):
        observer.update(values)
    centers = grown.centers()
    assert np.average(centers**2, weights=grown.counts) == pytest.approx(1.0, abs=0.05)


def test_the_few_values_among_many_zeros_are_no_tail() -> None:
    observer = OBSERVERS["percentile"]()
    for position in (0, 7, None, None):
        values = torch.zeros(60000)
        if position is not None:
            values[position] = 1.0 + position
        observer.update(values)
    assert observer.range(U8) == (0.0, 8.0)


def test_least_squares_beats_the_extremes_on_outliers() -> None:
    values = torch.cat([torch.randn(20000, generator=torch.Generator().manual_seed(0)), torch.tensor([80.0])])
    found = {}
    for name in ("minmax", "mse"):
        observer = OBSERVERS[name]()
        observer.update(values)
        found[name] = error_of(values, *observer.range(U4), U4)
    assert found["mse"] < found["minmax"] / 2


@pytest.mark.parametrize("name", ["percentile", "entropy"])
def test_outliers_are_cut(name: str) -> None:
    # A single outlier among few values is not rare at 99.999 %: that takes many.
    observer = OBSERVERS[name]()
    observer.update(torch.cat([torch.randn(400_000, generator=torch.Generator().manual_seed(0)), torch.tensor([80.0])]))
    assert observer.range(U8)[1] < 40


def test_a_moving_average_forgets() -> None:
    observer = OBSERVERS["moving_average"]()
    observer.update(torch.tensor([-100.0, 100.0]))
    for _ in range(100):
        observer.update(torch.tensor([-1.0, 1.0]))
    assert observer.range(U8)[1] == pytest.approx(1.0, abs=0.01)
