import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgepress.errors import UserError
from edgepress.measure.parity import compare_outputs

A = np.array([[1.0, 2.0], [3.0, 0.0], [0.5, 0.25]], np.float32)


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=3, min_side=1)))
def test_equal_outputs_have_no_error(output):
    parity = compare_outputs("a", "b", [output], [output.copy()])
    assert (parity.max_abs, parity.mean_abs, parity.flip_rate) == (0, 0, 0)
    assert parity.n == len(output)


@given(st.floats(-10, 10))
def test_a_constant_shift_is_the_error(shift):
    parity = compare_outputs("a", "b", [A.astype(float)], [A.astype(float) + shift])
    assert parity.max_abs == pytest.approx(abs(shift), abs=1e-9)
    assert parity.mean_abs == pytest.approx(abs(shift), abs=1e-9)


def test_flips_are_counted_per_sample():
    other = A.copy()
    other[0] = [5, 2]
    assert compare_outputs("a", "b", [A], [other]).flip_rate == pytest.approx(1 / 3)


def test_all_outputs_count_for_the_error_and_the_first_for_flips():
    parity = compare_outputs("a", "b", [A, np.zeros((3, 1))], [A, np.ones((3, 1))])
    assert (parity.max_abs, parity.mean_abs, parity.flip_rate) == (1, 3 / 9, 0)


def test_integers_do_not_wrap():
    assert compare_outputs("a", "b", [np.uint8([[0]])], [np.uint8([[255]])]).max_abs == 255


def test_nothing_is_predicted():
    assert compare_outputs("a", "b", [A], [A], class_axis=None).flip_rate is None
    assert compare_outputs("a", "b", [A[:, 0]], [A[:, 0]]).flip_rate is None


def test_one_sided_nan_is_an_error_not_a_number():
    broken = A.copy()
    broken[1, 1] = np.nan
    with pytest.raises(UserError, match="cannot be compared"):
        compare_outputs("a", "b", [A], [broken])
    assert compare_outputs("a", "b", [broken], [broken]).max_abs == 0


@pytest.mark.parametrize(("ours", "theirs"), [([A], [A[:2]]), ([A], [A, A]), ([], [])])
def test_shapes_that_differ(ours, theirs):
    with pytest.raises(UserError, match="differ in shape"):
        compare_outputs("a", "b", ours, theirs)
