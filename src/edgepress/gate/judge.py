"""Evidence held against budgets: the one function a gate needs."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from edgepress.errors import UserError
from edgepress.gate.budget import Budget, LimitKind, check_consistent
from edgepress.gate.finding import (
    Finding,
    drop,
    estimate,
    holds,
    is_exact,
    outcome_drop,
    ratio,
    worst_accuracy,
    worst_drop,
)
from edgepress.gate.metrics import ACCURACY_NAMES, WORST_OF, check_known, find, is_machine_bound, percentile_share
from edgepress.gate.verdict import Judgement, Outcome, Verdict
from edgepress.gate.wording import describe
from edgepress.measure.record import ClassOutcome, Evidence, Measurement, Subject
from edgepress.measure.stats.proportions import Interval, normal_quantile, samples_for_percentile, samples_to_decide

FLOORS: frozenset[LimitKind] = frozenset({"min", "min_ratio"})
RELATIVE: frozenset[LimitKind] = frozenset({"max_ratio", "min_ratio", "max_drop"})


class Reference(NamedTuple):
    """What relative limits are compared with.

    Attributes:
        subject: its measurements. label: its name in words.
        machine_class: where its timings were taken.
        paired: whether it is of the same run, its samples taken together with the model's.
    """

    subject: Subject
    label: str
    machine_class: str
    paired: bool


class ErrorRates(NamedTuple):
    """Chance of wrongly failing, and of wrongly passing, one limit."""

    fail: float
    passing: float


class Check(NamedTuple):
    """One limit of one budget, before it is judged."""

    budget: Budget
    kind: LimitKind
    limit: float
    measurement: Measurement | None
    reference: Measurement | None
    groups: tuple[ClassOutcome, ...] = ()


def judge(
    evidence: Evidence,
    budgets: Sequence[Budget],
    reference: Reference | None = None,
    *,
    false_alarm_rate: float = 0.05,
    level: Callable[[float], float] | None = None,
) -> Judgement:
    """One verdict per limit.

    Args:
        reference: what relative limits are held against; the evidence's own baseline if `None`.
        false_alarm_rate: the chance, at most, that the gate fails a model that keeps all budgets, and likewise that it
            passes one that breaks a budget. Failing on any of m noisy limits must be m times rarer for each of them
            (Bonferroni; exact limits, such as sizes, and warnings use none of it). Passing needs all of them, so that
            each may err at the whole rate (intersection-union test, Berger 1982, Technometrics 24).
        level: for data that is looked at repeatedly: the level of this look for a given error rate over all looks.
            Applies to measured times and energies alone, since nothing else grows between looks.

    Raises:
        UserError: an unknown metric, or budgets that contradict one another.
    """
    check_consistent(tuple(budgets))
    against = reference or own_baseline(evidence)
    checks = [_check(evidence, budget, kind, against) for budget in budgets for kind in budget.limits]
    noisy = sum(_is_noisy(check) and check.budget.severity == "fail" for check in checks)
    shared = ErrorRates(fail=false_alarm_rate / max(1, noisy), passing=false_alarm_rate)
    looked_at = ErrorRates(*map(level, shared)) if level else shared
    return Judgement(
        subject=evidence.compressed.name or evidence.name,
        reference=against.label,
        false_alarm_rate=false_alarm_rate,
        verdicts=tuple(_verdict(evidence, c, against, looked_at if _is_repeated(c) else shared) for c in checks),
        notes=tuple(
            f"while timing: {text}" for text in evidence.environment.warnings if any(map(_is_repeated, checks))
        ),
    )


def own_baseline(evidence: Evidence) -> Reference:
    """The baseline that was measured in the same run, interleaved with the model."""
    name = evidence.baseline.name
    label = "the baseline of the same run" if name == "baseline" else name
    return Reference(evidence.baseline, label, evidence.environment.machine_class, paired=True)


def _check(evidence: Evidence, budget: Budget, kind: LimitKind, against: Reference) -> Check:
    check_known(budget.metric, evidence)
    evidence = evidence.answered_on(budget.target)
    limit = budget.limits[kind]
    if budget.metric in WORST_OF:
        _refuse_group_ratio(budget, kind)
        groups = tuple(
            group for group in evidence.classes if group.kind == WORST_OF[budget.metric] and group.outcomes.n
        )
        return Check(budget, kind, limit, None, None, groups)
    measurement = find(evidence.compressed, evidence, budget.metric, budget.target)
    own = evidence if against.subject is evidence.baseline else None
    return Check(budget, kind, limit, measurement, find(against.subject, own, budget.metric, budget.target))


def _refuse_group_ratio(budget: Budget, kind: LimitKind) -> None:
    if kind not in ("min", "max_drop"):
        raise UserError(
            f"budget on {budget.metric}: {kind} is not defined over classes or slices",
            found=kind,
            expected="min or max_drop",
            fix=f"write: {{metric: {budget.metric}, max_drop: 0.05}}",
        )


def _is_noisy(check: Check) -> bool:
    sides = (check.measurement, check.reference if check.kind in RELATIVE else None)
    return bool(check.groups) or any(side and side.value is not None and not is_exact(side) for side in sides)


def _is_repeated(check: Check) -> bool:
    return check.measurement is not None and is_machine_bound(check.measurement)


def _verdict(evidence: Evidence, check: Check, against: Reference, rates: ErrorRates) -> Verdict:
    reason = _obstacle(evidence, check, against)
    if reason:
        return _conclude(check, None, "inconclusive", reason, rates)
    strict, loose = (_finding(evidence, check, against, rate) for rate in rates)
    finding = strict._replace(interval=_facing_ends(check.kind, strict.interval, loose.interval))
    kept = holds(check.kind, finding.interval, check.limit)
    outcomes: dict[bool | None, Outcome] = {True: "pass", False: "fail", None: "inconclusive"}
    straddles = finding.reason or "the interval includes the limit"
    return _conclude(check, finding, outcomes[kept], straddles if kept is None else "", rates)


def _facing_ends(kind: LimitKind, strict: Interval, loose: Interval) -> Interval:
    """The end that can fail the limit from the strict interval, the end that can pass it from the loose one."""
    if kind in FLOORS:
        return Interval(strict.value, loose.low, strict.high)
    return Interval(strict.value, strict.low, loose.high)


def _obstacle(evidence: Evidence, check: Check, against: Reference) -> str:
    """Why the limit cannot be judged at all, "" if it can."""
    budget, measurement = check.budget, check.measurement
    if budget.metric in WORST_OF:
        return "" if check.groups else f"no outcomes per {WORST_OF[budget.metric]} in the evidence"
    if measurement is None:
        return f"{budget.metric} was not measured{f' on {budget.target}' if budget.target else ''}"
    if measurement.value is None:
        return measurement.reason
    if measurement.source in ("modelled", "published") and measurement.source not in budget.metric:
        return f"the value is {measurement.source}, not measured: it is shown, never gated as if measured"
    if check.kind not in RELATIVE or _uses_paired(evidence, check, against):
        return ""
    return _reference_obstacle(measurement, check.reference, against, evidence.environment.machine_class)


def _reference_obstacle(
    measurement: Measurement, reference: Measurement | None, against: Reference, machine_class: str
) -> str:
    if reference is None:
        return f"{against.label} has no {measurement.name}"
    if reference.value is None:
        return f"{against.label}: {reference.reason}"
    if reference.source != measurement.source:
        return f"{measurement.source} here, {reference.source} in {against.label}: never compared with one another"
    if is_machine_bound(measurement) and against.machine_class != machine_class:
        return f"{against.label} was timed on another machine class ({against.machine_class}, here {machine_class})"
    return ""


def _uses_paired(evidence: Evidence, check: Check, against: Reference) -> bool:
    """Whether the run's own counts speak for this drop: its measurements kept no answers of single samples."""
    known = evidence.paired is not None and evidence.paired.n > 0 and against.paired
    answers = check.measurement is not None and check.measurement.right
    return known and not answers and check.budget.metric in ACCURACY_NAMES and check.kind == "max_drop"


def _finding(evidence: Evidence, check: Check, against: Reference, error_rate: float) -> Finding:
    if check.groups:
        if check.kind == "max_drop":
            worst = worst_drop(check.groups, check.limit, error_rate)
            own = "" if against.paired else "; against the baseline of the same run"
            return worst._replace(remark=worst.remark + own)
        return worst_accuracy(check.groups, error_rate)
    paired = evidence.answered_on(check.budget.target).paired
    if paired and _uses_paired(evidence, check, against):
        return outcome_drop(paired, error_rate)
    assert check.measurement is not None  # _obstacle has seen to it
    if check.kind not in RELATIVE:
        return estimate(check.measurement, error_rate)
    assert check.reference is not None
    if check.kind == "max_drop":
        return drop(check.reference, check.measurement, error_rate, same_run=against.paired)
    return ratio(check.reference, check.measurement, error_rate, paired=against.paired)


def _conclude(check: Check, finding: Finding | None, outcome: Outcome, reason: str, rates: ErrorRates) -> Verdict:
    budget, measurement = check.budget, check.measurement
    known = finding is not None and finding.shown
    value, low, high = finding.interval if finding and known else (None, None, None)
    verdict = Verdict(
        label=budget.label,
        metric=budget.metric,
        target=budget.target or (measurement.target if measurement else ""),
        kind=check.kind,
        limit=check.limit,
        outcome=outcome,
        severity=budget.severity,
        value=value,
        low=low,
        high=high,
        unit=finding.unit if finding else (measurement.unit if measurement else ""),
        baseline_value=check.reference.value if check.reference and check.kind in RELATIVE else None,
        source=measurement.source if measurement else "measured",
        n=finding.n if finding else 0,
        more_samples=_more_samples(check, finding, rates) if finding and outcome == "inconclusive" else None,
        evidence="-",
        reason=reason,
    )
    sureness = (1 - rates.passing, 1 - rates.fail) if check.kind in FLOORS else (1 - rates.fail, 1 - rates.passing)
    return verdict.model_copy(update={"evidence": describe(verdict, finding, sureness)})


def _more_samples(check: Check, finding: Finding, rates: ErrorRates) -> int | None:
    value, low, high = finding.interval
    above = value > check.limit
    facing, error_rate = (low if above else high), rates.fail if above != (check.kind in FLOORS) else rates.passing
    if facing is None:
        share = percentile_share(check.budget.metric)
        return samples_for_percentile(share, error_rate) - finding.n if share else None
    error = abs(facing - value) / normal_quantile(error_rate)
    return samples_to_decide(value - check.limit, error, finding.n, error_rate)
