"""What the gate concluded: one verdict per limit, and the judgement they add up to."""

from typing import Literal

from pydantic import model_validator

from edgepress.errors import ExitCode
from edgepress.gate.budget import LimitKind, Severity
from edgepress.measure.record import Record, Source

Outcome = Literal["pass", "fail", "inconclusive"]


class Verdict(Record):
    """The judgement of one limit of one budget.

    Attributes:
        label: how the budget is called. metric, target: what it is about.
        kind, limit: the limit: `max` 500000, `max_ratio` 1.05, `max_drop` 0.01, ...
        outcome: `inconclusive` where the evidence does not decide; `reason` then says why.
        severity: `warn` verdicts never change the exit code.
        value: the quantity that is compared with the limit: a value, a ratio or a drop; `None` if unknown.
        low, high: its confidence interval at the gate's error rate; equal to `value` where it is exact.
        unit: unit of value, limit and interval; `ratio` for ratios.
        baseline_value: the baseline's value of the metric, where the limit is relative.
        n: observations behind the value.
        more_samples: how many further observations would decide with 90 % probability, if the estimate holds.
        evidence: the whole finding in words.
        reason: why it is inconclusive.
    """

    label: str
    metric: str
    target: str = ""
    kind: LimitKind
    limit: float
    outcome: Outcome
    severity: Severity = "fail"
    value: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    baseline_value: float | None = None
    source: Source = "measured"
    n: int = 0
    more_samples: int | None = None
    evidence: str
    reason: str = ""

    @model_validator(mode="after")
    def _inconclusive_has_a_reason(self) -> "Verdict":
        if self.outcome == "inconclusive" and not self.reason:
            raise ValueError(f"{self.label}: an inconclusive verdict needs a reason")
        return self

    @property
    def exact(self) -> bool:
        """Whether the value carries no sampling error."""
        return self.value is not None and self.low == self.high == self.value


class Judgement(Record):
    """All verdicts about one model.

    Attributes:
        subject: what was judged. reference: what relative limits were compared with.
        false_alarm_rate: the chance, at most, that any verdict fails a model which keeps all its budgets.
        improvements: metrics that are better than the committed baseline beyond doubt, in words.
        notes: what a reader should know (another machine class, a stale baseline).
    """

    subject: str
    reference: str = ""
    false_alarm_rate: float = 0.05
    verdicts: tuple[Verdict, ...] = ()
    improvements: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """`fail` if any binding verdict fails, else `inconclusive` if any is, else `pass`."""
        binding = {verdict.outcome for verdict in self.verdicts if verdict.severity == "fail"}
        worst: tuple[Outcome, ...] = ("fail", "inconclusive", "pass")
        return next((outcome for outcome in worst if outcome in binding), "pass")

    @property
    def exit_code(self) -> ExitCode:
        codes = {"pass": ExitCode.PASS, "fail": ExitCode.BUDGET_FAILED, "inconclusive": ExitCode.INCONCLUSIVE}
        return codes[self.outcome]

    @property
    def warnings(self) -> tuple[Verdict, ...]:
        """Verdicts of severity `warn` that did not pass."""
        return tuple(v for v in self.verdicts if v.severity == "warn" and v.outcome != "pass")

    @property
    def headline(self) -> str:
        """One sentence: the outcome and how the verdicts divide."""
        if not self.verdicts:
            return "no budgets were declared: nothing was judged"
        counts = {o: sum(v.outcome == o for v in self.verdicts) for o in ("pass", "fail", "inconclusive")}
        parts = [f"{count} {word}" for word, count in counts.items() if count]
        return f"{self.outcome.upper()}: {', '.join(parts)} of {len(self.verdicts)} limits"
