"""Options and the learning rate they describe."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepress.errors import UserError
from edgepress.train import TrainOptions, options_from
from edgepress.train.schedule import learning_rate


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"epochs": 0}, "0"),
        ({"lr": -1.0}, "-1.0"),
        ({"optimizer": "adam"}, "adam"),
        ({"schedule": "linear"}, "linear"),
        ({"amp": "int8"}, "int8"),
        ({"ema": 1.0}, "1.0"),
        ({"batch_size": 10, "accumulate": 4}, "4"),
        ({"epoch": 3}, "epoch"),
    ],
)
def test_wrong_options_are_named(values: dict, found: str) -> None:
    with pytest.raises(UserError) as caught:
        options_from(values)
    assert caught.value.found == found


def test_lists_become_tuples_and_text_is_stable() -> None:
    assert options_from({"augment": ["flip"]}) == TrainOptions(augment=("flip",))
    assert TrainOptions(seed=1).to_json() == TrainOptions(seed=1).to_json() != TrainOptions(seed=2).to_json()


@given(
    schedule=st.sampled_from(["cosine", "onecycle", "step", "constant"]),
    total=st.integers(1, 200),
    warmup=st.floats(0, 0.9),
    final=st.floats(0, 0.5),
)
def test_the_rate_rises_to_its_peak_and_never_rises_again(
    schedule: str, total: int, warmup: float, final: float
) -> None:
    options = TrainOptions(lr=0.5, schedule=schedule, warmup=warmup, final_lr=final)
    rates = [learning_rate(step, total, options) for step in range(total)]
    warm = round(warmup * total)
    assert all(0 <= rate <= 0.5 * (1 + 1e-9) for rate in rates)
    assert all(b >= a for a, b in pairwise(rates[:warm]))
    assert all(b <= a + 1e-12 for a, b in pairwise(rates[warm:]))
    if warm > 1:
        assert rates[warm - 1] == pytest.approx(0.5)


def test_the_shapes_of_the_schedules() -> None:
    def rates(schedule: str, **more: float) -> list[float]:
        options = TrainOptions(lr=1.0, schedule=schedule, **{"warmup": 0.0, **more})
        return [learning_rate(step, 100, options) for step in range(100)]

    assert rates("constant")[99] == 1.0
    assert [rates("step")[i] for i in (49, 50, 75)] == pytest.approx([1, 0.1, 0.01])
    assert rates("cosine")[50] == pytest.approx(0.5)
    assert rates("cosine", final_lr=0.2)[99] == pytest.approx(0.2, abs=1e-3)
    assert rates("onecycle", warmup=0.3)[0] == pytest.approx(1 / 25)
