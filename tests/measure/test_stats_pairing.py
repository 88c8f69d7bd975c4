"""Answers of single samples, packed and compared."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepress.measure.record import Measurement
from edgepress.measure.stats.pairing import discordance, pack


def accuracy(right: list[bool], data: str = "abc") -> Measurement:
    return Measurement(
        name="accuracy", value=sum(right) / len(right), unit="ratio", n=len(right), data=data, right=pack(right)
    )


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=300))
def test_counts_are_those_of_the_lists(answers: list[tuple[bool, bool]]) -> None:
    first, second = ([pair[i] for pair in answers] for i in (0, 1))
    counted = discordance(accuracy(first), accuracy(second))
    assert counted is not None
    assert counted.only_first == sum(a and not b for a, b in answers)
    assert counted.only_second == sum(b and not a for a, b in answers)
    assert counted.n == len(answers)


@pytest.mark.parametrize(
    "change",
    [
        {"data": ""},
        {"data": "other"},
        {"right": ""},
        {"right": "%%%"},
        {"right": "AAAA"},
        {"right": pack([True] * 100)},
        {"right": pack([True] * 8)},
        {"n": 9, "value": 4 / 9},
    ],
)
def test_what_does_not_belong_together_is_not_paired(change: dict[str, object]) -> None:
    known = accuracy([True, False] * 4)
    assert discordance(known, known.model_copy(update=change)) is None


def test_ten_thousand_answers_take_a_kilobyte() -> None:
    chance = random.Random(0)
    assert len(pack([chance.random() < 0.92 for _ in range(10_000)])) < 1200
