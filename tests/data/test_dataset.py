"""The value every source gives: splits, draws and hashes depend on content and seed alone."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgepress.data import Dataset, calibration_subset, leaked_rows, per_class, split
from edgepress.data.preprocess import Preprocess
from edgepress.errors import UserError


def numbered(n: int, classes: int = 3) -> Dataset:
    values = torch.arange(n * 2, dtype=torch.float32).view(n, 2)
    return Dataset((values,), torch.arange(n) % classes, tuple("abc"[:classes]), "numbered")


def test_empty_and_uneven_data_are_refused() -> None:
    with pytest.raises(UserError, match="not usable"):
        Dataset((torch.zeros(0, 3),), None)
    with pytest.raises(UserError, match="not usable") as caught:
        Dataset((torch.zeros(4, 3),), torch.zeros(5))
    assert "[4, 5]" in caught.value.found


def test_the_digest_follows_content_order_dtype_and_shape() -> None:
    data = numbered(6)
    assert data.digest == numbered(6).digest
    assert data.digest == dataclasses.replace(data, source="elsewhere").digest
    others = [
        data.subset([1, 0, 2, 3, 4, 5]),
        data.unlabelled(),
        dataclasses.replace(data, inputs=(data.inputs[0].view(6, 1, 2),)),
        dataclasses.replace(data, inputs=(data.inputs[0].double(),)),
    ]
    assert len({data.digest, *(d.digest for d in others)}) == 5


def test_class_balance_counts_by_name() -> None:
    assert numbered(7).class_balance() == {"a": 3, "b": 2, "c": 2}
    assert numbered(7).unlabelled().class_balance() == {}


@given(n=st.integers(1, 40), size=st.integers(1, 12), seed=st.none() | st.integers(0, 9), drop=st.booleans())
def test_batches_cover_each_sample_once(n: int, size: int, seed: int | None, drop: bool) -> None:
    data = numbered(n)
    batches = list(data.batches(size, seed=seed, drop_last=drop))
    seen = sorted(float(v) for batch in batches for v in batch.inputs[0][:, 0])
    assert len(set(seen)) == len(seen) == (n // size * size if drop else n)
    assert all(len(batch) == size for batch in batches[:-1])


@given(n=st.integers(9, 60), fraction=st.floats(0.2, 0.8), seed=st.integers(0, 99))
def test_a_split_has_two_disjoint_sides_alike_in_class(n: int, fraction: float, seed: int) -> None:
    rest, held = split(numbered(n), fraction, seed)
    assert set(rest.row_hashes()).isdisjoint(held.row_hashes())
    assert len(rest) + len(held) == n
    for name, count in held.class_balance().items():
        whole = numbered(n).class_balance()[name]
        assert abs(count - fraction * whole) <= 0.5 + 1e-6


def test_a_split_with_an_empty_side_is_refused() -> None:
    with pytest.raises(UserError, match="hold out"):
        split(numbered(4), 0.01, seed=0)


def test_draws_repeat_by_seed() -> None:
    data = numbered(50)
    assert data.take(10, 1).digest == data.take(10, 1).digest
    assert data.take(10, 1).digest != data.take(10, 2).digest
    assert len(data.take(99, 1)) == 50


def test_few_samples_per_class() -> None:
    few = per_class(numbered(30), 2, seed=0)
    assert few.class_balance() == {"a": 2, "b": 2, "c": 2}
    with pytest.raises(UserError, match="cannot draw 11"):
        per_class(numbered(30), 11, seed=0)
    with pytest.raises(UserError, match="per class"):
        per_class(numbered(30).unlabelled(), 1, seed=0)


def test_calibration_never_draws_what_the_model_is_judged_on() -> None:
    train = numbered(40)
    evaluation = train.subset([3, 5, 8])
    assert leaked_rows(train, evaluation) == [3, 5, 8]
    drawn = calibration_subset(train, evaluation, 37, seed=0)
    assert drawn.excluded == 3
    assert set(drawn.dataset.row_hashes()).isdisjoint(evaluation.row_hashes())
    assert drawn.dataset.digest == calibration_subset(train, evaluation, 37, seed=0).dataset.digest
    with pytest.raises(UserError, match="38 calibration samples") as caught:
        calibration_subset(train, evaluation, 38, seed=0)
    assert "3 of them also in the evaluation set" in caught.value.found


def test_preprocessing_by_channel_and_its_affine_form() -> None:
    raw = torch.randint(0, 256, (4, 5, 6, 3), dtype=torch.uint8)
    how = Preprocess(scale=1 / 255, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), layout="nhwc")
    done = how.tensor(raw)
    assert done.shape == (4, 3, 5, 6)
    assert done[1, 2, 3, 4] == pytest.approx((float(raw[1, 3, 4, 2]) / 255 - 0.3) / 0.7, abs=1e-6)
    factor, offset = (torch.tensor(v).view(1, 3, 1, 1) for v in how.affine())
    torch.testing.assert_close(done, raw.movedim(-1, 1).float() * factor + offset)


def test_preprocessing_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="`mean` does not fit"):
        Preprocess(mean=(1.0, 2.0)).tensor(torch.zeros(2, 3, 4, 4))
    with pytest.raises(UserError, match="divides by zero"):
        Preprocess(std=(0.0,))
