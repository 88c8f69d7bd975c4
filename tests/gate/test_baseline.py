"""The committed baseline: a round trip, what a review sees, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edgepress.errors import UserError
from edgepress.gate.baseline import baseline_of, read_baseline, write_baseline
from edgepress.gate.budget import Budget
from edgepress.gate.improvement import improvements
from edgepress.gate.judge import judge
from edgepress.measure.record import Evidence, Measurement
from edgepress.measure.stats.pairing import pack

Make = Callable[..., Evidence]
NOW = "2026-01-02T03:04:05+00:00"


def size(value: float) -> Measurement:
    return Measurement(name="size_bytes", value=value, unit="bytes", source="counted")


def latency(value: float) -> Measurement:
    samples = tuple(value * (1 + 0.001 * (i % 7 - 3)) for i in range(100))
    ends = {"low": value * 0.999, "high": value * 1.001}
    return Measurement(name="latency_ms", value=value, unit="ms", n=100, samples=samples, target="pi", **ends)


@pytest.fixture
def accepted(make_evidence: Make, tmp_path: Path) -> Path:
    unknown = Measurement(name="energy_mj", value=None, unit="mJ", reason="no meter")
    evidence = make_evidence([], [size(1000), latency(2.0), unknown])
    write_baseline(baseline_of(evidence, reason="first release: ✓", updated=NOW), tmp_path / "base.yaml")
    return tmp_path / "base.yaml"


def test_round_trip_and_one_line_per_metric(accepted: Path) -> None:
    baseline = read_baseline(accepted)
    assert baseline.reason == "first release: ✓"
    assert [(m.name, m.value, m.target) for m in baseline.metrics] == [
        ("size_bytes", 1000, ""),
        ("latency_ms", 2.0, "pi"),
    ]
    assert all(not m.samples for m in baseline.metrics)
    lines = accepted.read_text().splitlines()
    assert sum(line.startswith("  - {") for line in lines) == 2
    assert len(lines) < 15


def test_updating_changes_only_the_lines_that_moved(accepted: Path, make_evidence: Make) -> None:
    before = accepted.read_text().splitlines()
    write_baseline(
        baseline_of(make_evidence([], [size(900), latency(2.0)]), reason="first release: ✓", updated=NOW), accepted
    )
    changed = [line for line in accepted.read_text().splitlines() if line not in before]
    assert len(changed) == 1 and "900" in changed[0]


def test_a_gate_against_it(accepted: Path, make_evidence: Make) -> None:
    reference = read_baseline(accepted).reference()
    grown = judge(
        make_evidence([], [size(1100), latency(2.0)]), [Budget(metric="size_bytes", max_ratio=1.05)], reference
    )
    assert grown.outcome == "fail"
    assert "first release" in grown.reference


def test_good_news_is_told(accepted: Path, make_evidence: Make) -> None:
    reference = read_baseline(accepted).reference()
    better = improvements(make_evidence([], [size(500), latency(1.0)]), reference)
    assert len(better) == 2
    assert "size_bytes is 50.0 % better" in better[0]
    assert "latency_ms is at least" in better[1]
    assert improvements(make_evidence([], [size(995), latency(1.95)]), reference) == ()
    elsewhere = reference._replace(machine_class="another")
    assert len(improvements(make_evidence([], [size(500), latency(1.0)]), elsewhere)) == 1


def test_a_reason_and_values_are_needed(make_evidence: Make) -> None:
    with pytest.raises(UserError, match="needs a reason"):
        baseline_of(make_evidence([], [size(1)]), reason="  ", updated=NOW)
    with pytest.raises(UserError, match="nothing was measured"):
        baseline_of(make_evidence([], []), reason="why", updated=NOW)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "<<<<<<< HEAD\n" + text + ">>>>>>> theirs\n",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("1000.0", ".nan"),
        lambda text: text.replace('"unit"', '"unti"'),
        lambda text: text.replace("edgepress_baseline: 1", "edgepress_baseline: 2"),
        lambda text: text + text.splitlines()[-1] + "\n",
        lambda text: "",
    ],
    ids=["conflict", "cut", "nan", "typo", "version", "twice", "empty"],
)
def test_a_corrupt_baseline_is_refused(accepted: Path, damage: Callable[[str], str]) -> None:
    accepted.write_text(damage(accepted.read_text()))
    with pytest.raises(UserError, match="is corrupt") as caught:
        read_baseline(accepted)
    assert "baseline update" in caught.value.fix


def test_a_missing_baseline_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_baseline(tmp_path / "none.yaml")


def answered(wrong: set[int], data: str = "evaluation set") -> Measurement:
    right = [i not in wrong for i in range(1000)]
    share = sum(right) / len(right)
    return Measurement(
        name="accuracy", value=share, unit="ratio", n=1000, better="higher", data=data, right=pack(right)
    )


@pytest.mark.parametrize(("data", "outcome"), [("evaluation set", "pass"), ("another set", "inconclusive")])
def test_accuracy_is_paired_with_the_committed_answers(
    make_evidence: Make, tmp_path: Path, data: str, outcome: str
) -> None:
    """Twelve samples lost, eight gained: sample by sample a margin of 2 % is kept, from two means it is open."""
    before, now = set(range(100)), set(range(8, 112))
    write_baseline(baseline_of(make_evidence([], [answered(before)]), reason="r", updated=NOW), tmp_path / "b.yaml")
    reference = read_baseline(tmp_path / "b.yaml").reference()
    budget = Budget(metric="accuracy", max_drop=0.02)
    (verdict,) = judge(make_evidence([], [answered(now, data)]), [budget], reference).verdicts
    assert verdict.outcome == outcome
    assert ("12 samples lost, 8 gained" in verdict.evidence) == (outcome == "pass")


@pytest.mark.parametrize("limit", [{"max_drop": 0.1}, {"max_ratio": 1.02}])
def test_another_metric_is_paired_block_by_block(make_evidence: Make, tmp_path: Path, limit: dict[str, float]) -> None:
    def perplexity(shift: float, data: str = "text") -> Measurement:
        blocks = tuple(10 + shift + (b % 7 - 3) + 0.01 * (b % 3) * shift for b in range(20))
        return Measurement(name="perplexity", value=10 + shift, unit="", n=500, data=data, blocks=blocks)

    write_baseline(baseline_of(make_evidence([], [perplexity(0)]), reason="r", updated=NOW), tmp_path / "b.yaml")
    reference = read_baseline(tmp_path / "b.yaml").reference()
    budget = Budget(metric="perplexity", **limit)
    outcomes = [
        judge(make_evidence([], [now]), [budget], reference).verdicts[0].outcome
        for now in (perplexity(0.02), perplexity(0.4), perplexity(0.02, "other text"))
    ]
    assert outcomes == ["pass", "fail", "inconclusive"]
