"""What a team promises: limits on metrics, absolute or relative to a baseline."""

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from edgepress.errors import UserError

LimitKind = Literal["max", "min", "max_ratio", "min_ratio", "max_drop"]
LIMIT_KINDS: tuple[LimitKind, ...] = ("max", "min", "max_ratio", "min_ratio", "max_drop")

Severity = Literal["fail", "warn"]


class Budget(BaseModel):
    """One promise about one metric. At least one limit; several must be satisfiable together.

    Attributes:
        metric: name as in the evidence, unit included (`size_bytes`, `latency_ms`, `accuracy`, `worst_class_accuracy`).
        max, min: absolute limits, in the metric's unit.
        max_ratio, min_ratio: limits on value / baseline value (both > 0).
        max_drop: non-inferiority margin: how much worse than the baseline is still accepted, in the metric's unit.
            Judged on paired outcomes where the evidence has them.
        target: the target it is judged on; "" means the only one, or a metric that depends on none.
        severity: `warn` is shown, but never changes the exit code.
        name: a label of the team's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, str_strip_whitespace=True)

    metric: str
    max: float | None = None
    min: float | None = None
    max_ratio: float | None = None
    min_ratio: float | None = None
    max_drop: float | None = None
    target: str = ""
    severity: Severity = "fail"
    name: str = ""

    @model_validator(mode="after")
    def _limits_make_sense(self) -> "Budget":
        if not self.metric:
            raise ValueError("metric is empty: name one, e.g. size_bytes")
        if not self.limits:
            raise ValueError(f"{self.metric}: no limit; give one of {', '.join(LIMIT_KINDS)}")
        for low, high in (("min", "max"), ("min_ratio", "max_ratio")):
            _check_order(self.metric, low, high, getattr(self, low), getattr(self, high))
        for kind in ("max_ratio", "min_ratio"):
            if kind in self.limits and self.limits[kind] <= 0:
                raise ValueError(f"{self.metric}: {kind} is a ratio to the baseline and must be above 0")
        if self.max_drop is not None and self.max_drop < 0:
            raise ValueError(f"{self.metric}: max_drop is a margin and must be 0 or more")
        return self

    @property
    def limits(self) -> dict[LimitKind, float]:
        """The limits that are set, in a fixed order."""
        return {kind: value for kind in LIMIT_KINDS if (value := getattr(self, kind)) is not None}

    @property
    def label(self) -> str:
        """How the budget is called in reports: its name, or metric and target."""
        return self.name or (f"{self.metric} on {self.target}" if self.target else self.metric)


def _check_order(metric: str, low_name: str, high_name: str, low: float | None, high: float | None) -> None:
    if low is not None and high is not None and low > high:
        raise ValueError(f"{metric}: {low_name} {low:g} is above {high_name} {high:g}: nothing can satisfy both")


def parse_budgets(items: object, source: str = "budgets") -> tuple[Budget, ...]:
    """Budgets from plain data (the `budgets:` section of a recipe, or a file of their own).

    Args:
        items: a list of mappings.
        source: what to call the place in errors.

    Raises:
        UserError: not a list, an unknown key, no limit, or limits that contradict one another, within one budget or
            between two budgets of the same metric and target.
    """
    if not isinstance(items, list):
        raise UserError(
            f"{source}: the budgets are not a list",
            found=type(items).__name__,
            expected="a list of budgets",
            fix="write: budgets: [{metric: size_bytes, max: 500000}]",
        )
    budgets = tuple(_parse_one(item, f"{source}[{index}]") for index, item in enumerate(items))
    check_consistent(budgets, source)
    return budgets


def _parse_one(item: object, where: str) -> Budget:
    if not isinstance(item, Mapping):
        raise UserError(
            f"{where}: not a budget",
            found=repr(item),
            expected="a mapping with `metric` and a limit",
            fix="write: {metric: size_bytes, max: 500000}",
        )
    try:
        return Budget.model_validate(dict(item))
    except ValidationError as error:
        text, found = first_problem(error)
        limits = f"`metric` and one of {', '.join(LIMIT_KINDS)}"
        raise UserError(f"{where}: {text}", found=found, expected=limits, fix=_fix_of(error)) from error


def first_problem(error: ValidationError) -> tuple[str, str]:
    """The first problem of a validation error: field and what is wrong, and what was found there."""
    problem = error.errors()[0]
    field = ".".join(map(str, problem["loc"]))
    message = problem["msg"].removeprefix("Value error, ")
    found = "nothing" if problem["type"] == "missing" else f"{problem['input']!r:.80}"
    return f"{field}: {message}" if field else message, found


def _fix_of(error: ValidationError) -> str:
    import difflib

    problem = error.errors()[0]
    if problem["type"] != "extra_forbidden":
        return "correct it; docs/gate.md lists the fields of a budget"
    near = difflib.get_close_matches(str(problem["loc"][-1]), Budget.model_fields, n=1, cutoff=0)
    return f"rename it to `{near[0]}`, or remove it"


def check_consistent(budgets: tuple[Budget, ...], source: str = "budgets") -> None:
    """Raise `UserError` if two budgets of one metric and target cannot both hold."""
    for low, high in (("min", "max"), ("min_ratio", "max_ratio")):
        _check_pairwise(budgets, low, high, source)


def _check_pairwise(budgets: tuple[Budget, ...], low: str, high: str, source: str) -> None:
    floors: dict[tuple[str, str], Any] = {}
    ceilings: dict[tuple[str, str], Any] = {}
    for budget in budgets:
        key = (budget.metric, budget.target)
        floors[key] = max(floors.get(key, -math.inf), _or(getattr(budget, low), -math.inf))
        ceilings[key] = min(ceilings.get(key, math.inf), _or(getattr(budget, high), math.inf))
    for (metric, target), floor in floors.items():
        if floor > ceilings[metric, target]:
            raise UserError(
                f"{source}: two budgets on {metric}{f' on {target}' if target else ''} contradict each other",
                found=f"{low} {floor:g} and {high} {ceilings[metric, target]:g}",
                expected=f"{low} not above {high}",
                fix="remove or change one of them",
            )


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
