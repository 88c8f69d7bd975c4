"""Verdicts: each outcome, each kind of limit, and every reason not to decide."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from edgepress.errors import ExitCode, UserError
from edgepress.gate.budget import Budget, parse_budgets
from edgepress.gate.judge import Reference, judge
from edgepress.gate.verdict import Judgement, Verdict
from edgepress.measure.record import (
    ClassOutcome,
    Evidence,
    LayerCost,
    Measurement,
    PairedOutcomes,
    Parity,
    Subject,
)

Make = Callable[..., Evidence]


def size(value: float) -> Measurement:
    return Measurement(name="size_bytes", value=value, unit="bytes", source="counted")


def accuracy(value: float, n: int = 1000) -> Measurement:
    return Measurement(name="accuracy", value=value, unit="ratio", n=n, better="higher")


def latency(scale: float, n: int = 200, seed: int = 0, target: str = "") -> Measurement:
    chance = random.Random(seed)
    samples = tuple(scale * (1 + 0.0266 * chance.gauss(0, 1)) for _ in range(n))
    return Measurement(name="latency_ms", value=sorted(samples)[n // 2], unit="ms", n=n, samples=samples, target=target)


def only(judgement: Judgement) -> Verdict:
    assert len(judgement.verdicts) == 1
    return judgement.verdicts[0]


@pytest.mark.parametrize(
    ("limits", "outcome"),
    [
        ({"max": 500}, "pass"),
        ({"max": 400}, "pass"),
        ({"max": 399}, "fail"),
        ({"min": 400}, "pass"),
        ({"min": 401}, "fail"),
        ({"max_ratio": 0.4}, "pass"),
        ({"max_ratio": 0.39}, "fail"),
        ({"min_ratio": 0.3}, "pass"),
        ({"min_ratio": 0.5}, "fail"),
        ({"max_drop": 0}, "pass"),
    ],
)
def test_exact_values_are_decided(make_evidence: Make, limits: dict[str, float], outcome: str) -> None:
    judgement = judge(make_evidence([size(1000)], [size(400)]), [Budget(metric="size_bytes", **limits)])
    assert only(judgement).outcome == outcome
    assert only(judgement).exact
    assert judgement.exit_code == {"pass": ExitCode.PASS, "fail": ExitCode.BUDGET_FAILED}[outcome]


@pytest.mark.parametrize(
    ("ratio", "limit", "outcome"), [(1.0, 1.05, "pass"), (1.1, 1.05, "fail"), (1.05, 1.05, "inconclusive")]
)
def test_latency_ratio(make_evidence: Make, ratio: float, limit: float, outcome: str) -> None:
    evidence = make_evidence([latency(1.0, seed=1)], [latency(ratio, seed=2)])
    verdict = only(judge(evidence, [Budget(metric="latency_ms", max_ratio=limit)]))
    assert verdict.outcome == outcome
    assert "interleaved" in verdict.evidence
    assert (verdict.more_samples is not None) == (outcome == "inconclusive")


def test_few_samples_do_not_decide(make_evidence: Make) -> None:
    evidence = make_evidence([latency(1.0, n=4)], [latency(0.2, n=4)])
    verdict = only(judge(evidence, [Budget(metric="latency_ms", max_ratio=0.9)]))
    assert verdict.outcome == "inconclusive"
    assert "do not support an interval" in verdict.reason


def test_non_inferiority_is_not_the_absence_of_significance(make_evidence: Make) -> None:
    """Four more errors of 200: no significant difference, and yet no proof that the drop is below one point."""
    paired = PairedOutcomes(both=170, only_first=9, only_second=5, neither=16, flips=20)
    evidence = make_evidence([accuracy(0.895, 200)], [accuracy(0.875, 200)], paired=paired)
    verdict = only(judge(evidence, [Budget(metric="accuracy", max_drop=0.01)]))
    assert verdict.outcome == "inconclusive"
    assert "McNemar exact p = 0.42" in verdict.evidence
    assert verdict.more_samples and verdict.more_samples > 200


def test_paired_outcomes_decide_where_unpaired_would_not(make_evidence: Make) -> None:
    values = [accuracy(0.915)], [accuracy(0.910)]
    paired = PairedOutcomes(both=909, only_first=6, only_second=1, neither=84, flips=9)
    budget = [Budget(metric="accuracy", max_drop=0.015)]
    assert only(judge(make_evidence(*values, paired=paired), budget)).outcome == "pass"
    unpaired = only(judge(make_evidence(*values), budget))
    assert unpaired.outcome == "inconclusive" and "unpaired" in unpaired.evidence


def test_lower_is_better_drops_upwards(make_evidence: Make) -> None:
    def loss(value: float) -> Measurement:
        return Measurement(name="mse", value=value, unit="", n=500, low=value - 0.01, high=value + 0.01)

    budget = [Budget(metric="mse", max_drop=0.1)]
    assert only(judge(make_evidence([loss(1.0)], [loss(1.01)]), budget)).outcome == "pass"
    assert only(judge(make_evidence([loss(1.0)], [loss(1.2)]), budget)).outcome == "fail"
    assert only(judge(make_evidence([loss(1.0)], [loss(0.2)]), budget)).outcome == "pass"


def outcome(n: int, lost: int, gained: int) -> PairedOutcomes:
    return PairedOutcomes(
        both=n - lost - gained - 5, only_first=lost, only_second=gained, neither=5, flips=lost + gained
    )


def test_the_worst_class_is_found_and_named(make_evidence: Make) -> None:
    classes = [ClassOutcome(label=f"c{i}", outcomes=outcome(400, 2, 2)) for i in range(9)]
    bad = ClassOutcome(label="cat", outcomes=outcome(400, 80, 1))
    budget = [Budget(metric="worst_class_accuracy", max_drop=0.05)]
    clean = only(judge(make_evidence([], [], classes=tuple(classes)), budget))
    broken = only(judge(make_evidence([], [], classes=(*classes, bad)), budget))
    assert clean.outcome == "pass"
    assert broken.outcome == "fail"
    assert "beyond the margin after Holm: cat" in broken.evidence


def test_classes_are_held_against_their_own_run_whatever_the_reference(make_evidence: Make) -> None:
    groups = (ClassOutcome(label="a", outcomes=outcome(400, 2, 2)),)
    stored = Reference(Subject(name="old"), "the committed baseline", "x", paired=False)
    budget = [Budget(metric="worst_class_accuracy", max_drop=0.05)]
    verdict = only(judge(make_evidence([], [], classes=groups), budget, stored))
    assert verdict.outcome == "pass" and "against the baseline of the same run" in verdict.evidence


def test_many_equal_classes_rarely_fail_together(make_evidence: Make) -> None:
    """40 equal classes at margin 0: without correction nearly every gate would fail, with it at most one in twenty."""
    import numpy as np

    random_outcomes = np.random.default_rng(0).multinomial(100, [0.05, 0.05, 0.9], size=(100, 40))
    fails = 0
    for gate in random_outcomes:
        classes = tuple(
            ClassOutcome(label=str(i), outcomes=outcome(100, int(b), int(c))) for i, (b, c, _) in enumerate(gate)
        )
        evidence = make_evidence([], [], classes=classes)
        fails += only(judge(evidence, [Budget(metric="worst_class_accuracy", max_drop=0.0)])).outcome == "fail"
    assert fails / 100 <= 0.05 + 3 * (0.05 * 0.95 / 100) ** 0.5


def test_worst_class_floor_and_slices(make_evidence: Make) -> None:
    classes = (
        ClassOutcome(label="a", outcomes=outcome(400, 0, 0)),
        ClassOutcome(label="night", kind="slice", outcomes=outcome(400, 200, 0)),
    )
    evidence = make_evidence([], [], classes=classes)
    budgets = parse_budgets(
        [{"metric": "worst_class_accuracy", "min": 0.9}, {"metric": "worst_slice_accuracy", "min": 0.9}]
    )
    assert [v.outcome for v in judge(evidence, budgets).verdicts] == ["pass", "fail"]
    with pytest.raises(UserError, match="max_ratio is not defined"):
        judge(evidence, [Budget(metric="worst_class_accuracy", max_ratio=1)])


def test_derived_metrics(make_evidence: Make) -> None:
    layers = (LayerCost(name="a", op="conv", params=10, macs=100, activation_bytes=4),) * 2
    parity = (
        Parity(first="program", second="onnx", n=9, max_abs=0.1, mean_abs=0.01, flip_rate=0.0),
        Parity(first="onnx", second="c", n=9, max_abs=0.3, mean_abs=0.02),
    )
    paired = PairedOutcomes(both=90, only_first=0, only_second=0, neither=10, flips=50)
    subjects = {name: Subject(name=name, layers=layers) for name in ("baseline", "compressed")}
    evidence = make_evidence([], [], parity=parity, paired=paired).model_copy(update=subjects)
    limits: dict[str, Any] = {"params": {"max": 20}, "macs": {"max_ratio": 1}, "churn": {"max": 0.1}}
    limits |= {"parity_max_abs": {"max": 0.2}, "parity_flip_rate": {"max": 0}}
    budgets = [Budget(metric=metric, **limit) for metric, limit in limits.items()]
    found = {v.metric: v.outcome for v in judge(evidence, budgets).verdicts}
    expected = {"params": "pass", "macs": "pass", "churn": "fail", "parity_max_abs": "fail", "parity_flip_rate": "pass"}
    assert found == expected


@pytest.mark.parametrize(("n", "expected"), [(150, "inconclusive"), (900, "pass")])
def test_a_percentile_needs_enough_samples(make_evidence: Make, n: int, expected: str) -> None:
    evidence = make_evidence([], [latency(1.0, n=n)])
    verdict = only(judge(evidence, [Budget(metric="latency_p99_ms", max=1.2)]))
    assert verdict.outcome == expected
    if expected == "inconclusive":
        assert verdict.value is None
        assert "do not support a 99th percentile" in verdict.reason
        assert verdict.more_samples == 299 - 150


@pytest.mark.parametrize(
    ("compressed", "budget", "words"),
    [
        ([], {"metric": "latency_ms", "max": 1}, "was not measured"),
        ([], {"metric": "latency_ms", "max": 1, "target": "pi"}, "was not measured on pi"),
        (
            [Measurement(name="energy_mj", value=None, unit="mJ", reason="no meter here")],
            {"metric": "energy_mj", "max": 1},
            "no meter here",
        ),
        (
            [Measurement(name="energy_mj", value=1, unit="mJ", source="modelled")],
            {"metric": "energy_mj", "max": 2},
            "never gated as if measured",
        ),
        ([accuracy(0.9, n=1)], {"metric": "accuracy", "min": 0.1}, "do not support an interval"),
        ([size(1)], {"metric": "size_bytes", "max_ratio": 1}, "has no size_bytes"),
        ([], {"metric": "worst_class_accuracy", "min": 0.5}, "no outcomes per class"),
    ],
)
def test_what_keeps_a_verdict_open(
    make_evidence: Make, compressed: list[Measurement], budget: dict[str, Any], words: str
) -> None:
    judgement = judge(make_evidence([], compressed), parse_budgets([budget]))
    assert only(judgement).outcome == "inconclusive"
    assert words in only(judgement).reason
    assert judgement.exit_code == ExitCode.INCONCLUSIVE


def test_sources_are_never_mixed_and_zero_has_no_ratio(make_evidence: Make) -> None:
    budget = [Budget(metric="macs", max_ratio=1)]
    counted = Measurement(name="macs", value=5, unit="count", source="counted")
    published = Measurement(name="macs", value=5, unit="count", source="published")
    assert "never compared" in only(judge(make_evidence([published], [counted]), budget)).reason
    zero = counted.model_copy(update={"value": 0})
    assert "no ratio" in only(judge(make_evidence([zero], [counted]), budget)).reason


def test_another_machine_class_blocks_relative_timings_alone(make_evidence: Make) -> None:
    stored = Subject(name="old", measurements=(size(1000), latency(1.0), accuracy(0.9, 100_000)))
    elsewhere = Reference(stored, "the committed baseline", "another/8", paired=False)
    evidence = make_evidence([], [size(900), latency(0.5), accuracy(0.9, 100_000)])
    limits: list[dict[str, Any]] = [
        {"metric": "size_bytes", "max_ratio": 1},
        {"metric": "accuracy", "max_drop": 0.01},
        {"metric": "latency_ms", "max": 1},
        {"metric": "latency_ms", "max_ratio": 1.05},
    ]
    verdicts = judge(evidence, parse_budgets(limits), elsewhere).verdicts
    assert [v.outcome for v in verdicts] == ["pass", "pass", "pass", "inconclusive"]
    assert "another machine class" in verdicts[-1].reason


def test_a_stored_timing_is_compared_with_allowance_between_runs(make_evidence: Make) -> None:
    stored = Subject(name="old", measurements=(latency(1.0, n=1000, seed=1).model_copy(update={"samples": ()}),))
    recorded = stored.measurements[0].model_copy(update={"low": 0.999, "high": 1.001})
    evidence = make_evidence([], [latency(1.06, n=1000, seed=2)])
    same_place = Reference(
        stored.model_copy(update={"measurements": (recorded,)}),
        "stored",
        evidence.environment.machine_class,
        paired=False,
    )
    budget = [Budget(metric="latency_ms", max_ratio=1.02)]
    verdict = only(judge(evidence, budget, same_place))
    assert verdict.outcome == "inconclusive"  # 4 % beyond the limit is within two runs' luck
    assert "between runs" in verdict.evidence
    slower = make_evidence([], [latency(1.2, n=1000, seed=2)])
    assert only(judge(slower, budget, same_place)).outcome == "fail"


def test_disturbances_are_told_where_times_were_judged(make_evidence: Make) -> None:
    evidence = make_evidence([], [latency(1.0), size(1)])
    disturbed = evidence.environment.model_copy(update={"warnings": ("another process took the CPU",)})
    evidence = evidence.model_copy(update={"environment": disturbed})
    assert judge(evidence, [Budget(metric="size_bytes", max=1)]).notes == ()
    assert "took the CPU" in judge(evidence, [Budget(metric="latency_ms", max=2)]).notes[0]


def test_nothing_evaluated_decides_nothing(make_evidence: Make) -> None:
    nothing = PairedOutcomes(both=0, only_first=0, only_second=0, neither=0, flips=0)
    evidence = make_evidence([], [], paired=nothing, classes=(ClassOutcome(label="empty", outcomes=nothing),))
    budgets = [Budget(metric="accuracy", max_drop=0.1), Budget(metric="churn", max=0.1)]
    budgets.append(Budget(metric="worst_class_accuracy", min=0.5))
    assert {v.outcome for v in judge(evidence, budgets).verdicts} == {"inconclusive"}


def test_a_count_that_falls_to_zero_is_decided(make_evidence: Make) -> None:
    none = Measurement(name="macs", value=0, unit="count", source="counted")
    evidence = make_evidence([none.model_copy(update={"value": 7})], [none])
    assert only(judge(evidence, [Budget(metric="macs", max_ratio=0.5)])).outcome == "pass"


def test_several_targets_need_a_name(make_evidence: Make) -> None:
    evidence = make_evidence([], [latency(1, target="pi"), latency(2, target="host")])
    with pytest.raises(UserError, match="several targets"):
        judge(evidence, [Budget(metric="latency_ms", max=5)])
    assert only(judge(evidence, [Budget(metric="latency_ms", max=5, target="pi")])).target == "pi"


def test_a_misspelt_metric_is_wrong_use(make_evidence: Make) -> None:
    with pytest.raises(UserError, match="no such metric") as caught:
        judge(make_evidence([], [size(1)]), [Budget(metric="size_byte", max=5)])
    assert "size_bytes" in caught.value.fix


def test_warnings_never_change_the_outcome(make_evidence: Make) -> None:
    budgets = [Budget(metric="size_bytes", max=1, severity="warn"), Budget(metric="size_bytes", max=5000)]
    judgement = judge(make_evidence([], [size(1000)]), budgets)
    assert judgement.outcome == "pass"
    assert [v.outcome for v in judgement.warnings] == ["fail"]


def test_fail_outweighs_inconclusive(make_evidence: Make) -> None:
    budgets = [Budget(metric="latency_ms", max=1), Budget(metric="size_bytes", max=1)]
    judgement = judge(make_evidence([], [size(1000)]), budgets)
    assert judgement.exit_code == ExitCode.BUDGET_FAILED
    assert "1 fail, 1 inconclusive of 2" in judgement.headline


def test_no_budgets_no_verdict(make_evidence: Make) -> None:
    judgement = judge(make_evidence([], [size(1)]), [])
    assert judgement.exit_code == ExitCode.PASS
    assert "nothing was judged" in judgement.headline


def test_more_noisy_budgets_fail_less_easily_each(make_evidence: Make) -> None:
    evidence = make_evidence([], [accuracy(0.88, 1000)])
    one = judge(evidence, [Budget(metric="accuracy", min=0.9)])
    many = judge(evidence, [Budget(metric="accuracy", min=0.9, name=str(i)) for i in range(10)])
    assert one.outcome == "fail"
    assert many.outcome == "inconclusive"
