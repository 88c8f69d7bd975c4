import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgepress.errors import UserError
from edgepress.measure.outcomes import calibration_error, compare_outcomes, picture_png

LABELS = np.array([0, 0, 1, 1, 2])
FIRST = np.eye(3)[[0, 0, 1, 2, 0]] * 4  # right, right, right, wrong, wrong
SECOND = np.eye(3)[[0, 1, 1, 1, 1]] * 4  # right, wrong, right, right, wrong


def test_right_and_wrong_in_pairs():
    paired = compare_outcomes(FIRST, SECOND, LABELS).paired
    assert (paired.both, paired.only_first, paired.only_second, paired.neither) == (2, 1, 1, 1)
    assert paired.flips == 3  # rows 1 and 3, and row 4: wrong before and after, yet another answer


def test_classes_add_up_to_the_whole():
    outcomes = compare_outcomes(FIRST, SECOND, LABELS, class_names=["cat", "dog", "owl"])
    assert [c.label for c in outcomes.classes] == ["cat", "dog", "owl"]
    for field in ("both", "only_first", "only_second", "neither", "flips"):
        assert sum(getattr(c.outcomes, field) for c in outcomes.classes) == getattr(outcomes.paired, field)


@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_accuracy_agrees_with_the_pairs(seed, n):
    rng = np.random.default_rng(seed)
    first, second, labels = rng.normal(size=(n, 4)), rng.normal(size=(n, 4)), rng.integers(0, 4, n)
    outcomes = compare_outcomes(first, second, labels)
    accuracy = outcomes.first[0]
    assert accuracy.value == pytest.approx((outcomes.paired.both + outcomes.paired.only_first) / n)
    assert accuracy.low <= accuracy.value + 1e-12 and accuracy.value <= accuracy.high + 1e-12
    assert outcomes.paired.n == n


def test_forgotten_samples_are_listed_surest_first_with_pictures():
    first = np.array([[2.0, 0.0], [9.0, 0.0], [0.0, 1.0]])
    second = np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    images = np.random.default_rng(0).normal(size=(3, 3, 8, 8))
    forgotten = compare_outcomes(first, second, np.array([0, 0, 1]), class_names="ab", images=images).forgotten
    assert [(f.index, f.label, f.predicted) for f in forgotten] == [(1, "a", "b"), (0, "a", "b")]
    assert all(f.image_png for f in forgotten)


def test_only_so_many_forgotten_samples_are_listed():
    n = 50
    scores = np.tile([[1.0, 0.0]], (n, 1))
    outcomes = compare_outcomes(scores, scores[:, ::-1], np.zeros(n, int), max_forgotten=7)
    assert len(outcomes.forgotten) == 7
    assert outcomes.paired.only_first == n
    assert outcomes.forgotten[0].image_png == ""


def test_calibration_of_a_model_that_is_as_sure_as_it_is_right():
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.5, 1, 40_000)
    labels = (rng.uniform(size=len(sure)) > sure).astype(int)  # class 0 with probability `sure`
    assert calibration_error(np.stack([sure, 1 - sure], 1), labels) < 0.02


def test_calibration_of_a_model_that_is_always_sure_and_half_right():
    scores = np.tile([[50.0, 0.0]], (1000, 1))
    assert calibration_error(scores, np.arange(1000) % 2) == pytest.approx(0.5)


@pytest.mark.parametrize("shape", [(28, 28), (1, 28, 28), (3, 32, 32), (32, 32, 3), (3, 200, 100), (96, 96, 1)])
def test_pictures_are_small_pngs(shape):
    png = base64.b64decode(picture_png(np.random.default_rng(0).normal(size=shape)))
    image = Image.open(io.BytesIO(png))
    assert max(image.size) == 64
    assert image.mode == ("RGB" if 3 in shape else "L")


def test_a_flat_image_is_black_not_an_error():
    assert picture_png(np.full((4, 4), 7))


def test_something_that_is_no_image():
    with pytest.raises(UserError, match="not an image"):
        picture_png(np.zeros((5, 6, 7)))


@pytest.mark.parametrize(
    ("first", "second", "labels", "what"),
    [
        (FIRST, SECOND[:4], LABELS, "do not fit together"),
        (FIRST, SECOND, LABELS[:2], "do not fit together"),
        (FIRST[:0], SECOND[:0], LABELS[:0], "do not fit together"),
        (FIRST, SECOND, LABELS + 1, "names no class"),
        (FIRST, SECOND, LABELS - 1, "names no class"),
    ],
)
def test_what_does_not_fit(first, second, labels, what):
    with pytest.raises(UserError, match=what):
        compare_outcomes(first, second, labels)


def test_slices_are_paired_like_classes():
    outcomes = compare_outcomes(FIRST, SECOND, LABELS, slices={"light": ["day", "night", "day", "night", "night"]})
    slices = {c.label: c.outcomes for c in outcomes.classes if c.kind == "slice"}
    assert set(slices) == {"light=day", "light=night"}
    assert (slices["light=day"].both, slices["light=day"].n) == (2, 2)
    assert (slices["light=night"].only_first, slices["light=night"].only_second, slices["light=night"].neither) == (
        1,
        1,
        1,
    )
    assert [c.label for c in outcomes.classes if c.kind == "class"] == ["0", "1", "2"]
