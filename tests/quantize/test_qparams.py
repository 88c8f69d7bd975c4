import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgepress.quantize.qparams import affine, grid_of, on_grid, weight_scales
from edgepress.targets.capability import Format

U8 = grid_of(Format(dtype="uint8"))
S8 = grid_of(Format(dtype="int8", symmetric=True))
bounds = st.floats(-1e6, 1e6, allow_subnormal=False)


@given(bounds, bounds)
def test_zero_is_exact_and_the_range_is_covered(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    scale, zero = affine(low, high, U8)
    assert U8.low <= zero <= U8.high and scale > 0
    assert (U8.high - zero) * scale >= high - 0.51 * scale - 1e-6
    assert (U8.low - zero) * scale <= low + 0.51 * scale + 1e-6


@given(bounds, bounds)
def test_symmetric_grids_have_zero_point_zero(a: float, b: float) -> None:
    scale, zero = affine(min(a, b), max(a, b), S8)
    assert zero == 0
    assert 127 * scale >= max(abs(a), abs(b)) * (1 - 1e-6) or scale == 1.0


@given(st.floats(1e-6, 1e6))
def test_powers_of_two(reach: float) -> None:
    scale, _ = affine(-reach, reach, S8, power_of_two=True)
    assert math.frexp(scale)[0] == 0.5
    assert 127 * scale >= reach * (1 - 1e-6)


@pytest.mark.parametrize(("low", "high"), [(math.nan, 1.0), (0.0, math.inf), (2.0, 1.0)])
def test_what_is_no_range_is_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="no range"):
        affine(low, high, U8)


def test_an_empty_range_gets_scale_one() -> None:
    assert affine(0.0, 0.0, U8) == (1.0, 0)


@pytest.mark.parametrize(("bits", "low", "high"), [(8, -127, 127), (4, -7, 7), (3, -3, 3), (2, -2, 1)])
def test_narrow_grids(bits: int, low: int, high: int) -> None:
    grid = grid_of(Format(dtype="int8", symmetric=True), bits)
    assert (grid.low, grid.high) == (low, high)


@given(st.integers(0, 2**31))
def test_rounding_errs_by_half_a_step_at_most(seed: int) -> None:
    weight = torch.randn(5, 7, generator=torch.Generator().manual_seed(seed))
    scales = weight_scales(weight, 0, S8)
    assert ((on_grid(weight, scales, 0, S8) - weight).abs() <= scales[:, None] * 0.5001).all()


def test_channels_of_zeros_take_a_usual_scale() -> None:
    weight = torch.tensor([[1.27, 0.0], [0.0, 0.0], [2.54, 1.0]])
    scales = weight_scales(weight, 0, S8)
    assert scales[0] <= scales[1] <= scales[2]
    assert weight_scales(torch.zeros(2, 3), 0, S8).tolist() == [1.0, 1.0]
