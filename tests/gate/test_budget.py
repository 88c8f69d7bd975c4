"""Budgets: what is accepted, and what is refused with words that help."""

import pytest

from edgepress.errors import UserError
from edgepress.gate.budget import Budget, parse_budgets
from edgepress.gate.shorthand import parse_amount, parse_limit


def test_a_budget_keeps_its_limits_in_order() -> None:
    budget = parse_budgets([{"metric": "latency_ms", "max_ratio": 1.05, "max": 5, "target": "pi"}])[0]
    assert budget.limits == {"max": 5, "max_ratio": 1.05}
    assert budget.label == "latency_ms on pi"
    assert budget.model_copy(update={"name": "fast enough"}).label == "fast enough"


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"metric": "size_bytes"}, "no limit"),
        ({"metric": "", "max": 1}, "metric is empty"),
        ({"metric": "size_bytes", "max": 1, "min": 2}, "nothing can satisfy both"),
        ({"metric": "latency_ms", "max_ratio": 1, "min_ratio": 2}, "nothing can satisfy both"),
        ({"metric": "latency_ms", "max_ratio": 0}, "must be above 0"),
        ({"metric": "accuracy", "max_drop": -0.1}, "must be 0 or more"),
        ({"metric": "size_bytes", "max": float("nan")}, "finite"),
        ({"metric": "size_bytes", "max": "much"}, "number"),
        ({"metric": "size_bytes", "max": 1, "severity": "loud"}, "severity"),
        ({"max": 1}, "metric"),
        ("size_bytes", "not a budget"),
    ],
)
def test_refused(item: object, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        parse_budgets([item], "budgets.yaml")
    assert "budgets.yaml[0]" in str(caught.value)


def test_an_unknown_key_names_the_nearest_one() -> None:
    with pytest.raises(UserError, match="max_dorp") as caught:
        parse_budgets([{"metric": "accuracy", "max_dorp": 0.01}])
    assert "max_drop" in caught.value.fix


def test_not_a_list() -> None:
    with pytest.raises(UserError, match="not a list"):
        parse_budgets({"metric": "size_bytes", "max": 1})


def test_two_budgets_may_not_contradict_each_other() -> None:
    floor, ceiling = {"metric": "accuracy", "min": 0.95}, {"metric": "accuracy", "max": 0.9}
    with pytest.raises(UserError, match="contradict"):
        parse_budgets([floor, ceiling])
    other_target = parse_budgets([{**floor, "target": "a"}, {**ceiling, "target": "b"}])
    assert len(other_target) == 2


@pytest.mark.parametrize(
    ("text", "value"), [("500kB", 500e3), ("1.5MiB", 1.5 * 2**20), ("73000", 73000), ("100k", 1e5), ("2 GB", 2e9)]
)
def test_amounts(text: str, value: float) -> None:
    assert parse_amount(text, "--max-size") == value


@pytest.mark.parametrize("text", ["", "kB", "5 apples", "1e", "-"])
def test_amounts_refused(text: str) -> None:
    with pytest.raises(UserError, match="--max-size"):
        parse_amount(text, "--max-size")


def test_limits_in_short() -> None:
    assert parse_limit("latency_ms<=1.05x") == Budget(metric="latency_ms", max_ratio=1.05)
    assert parse_limit("accuracy >= 0.9") == Budget(metric="accuracy", min=0.9)
    assert parse_limit("latency_ms@pi-5<=5") == Budget(metric="latency_ms", target="pi-5", max=5)
    for wrong in ("latency_ms", "latency_ms<5", "<=5", "latency_ms<=fast"):
        with pytest.raises(UserError, match="--limit"):
            parse_limit(wrong)
