"""Numbers and verdicts in words, the same in the terminal, in reports and in annotations."""

from edgepress.gate.finding import Finding
from edgepress.gate.verdict import Verdict

SYMBOLS = {"pass": "✓", "fail": "✗", "inconclusive": "?"}
SIGNS = {"max": "≤", "min": "≥", "max_ratio": "≤", "min_ratio": "≥", "max_drop": "≤"}
_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def quantity(value: float | None, unit: str) -> str:
    """A number with its unit, short enough to read: `367.9 kB`, `0.310 ms`, `91.5 %`, `unknown`."""
    if value is None:
        return "unknown"
    if unit == "ratio":
        return f"{100 * value:.2f} %"
    if unit == "bytes":
        return _scaled(value, "B")
    if unit in ("count", "MACs", "instructions"):
        return _scaled(value, "").strip()
    return f"{value:.4g} {unit}".strip()


def _scaled(value: float, suffix: str) -> str:
    if abs(value) < 1e4:  # small enough to be read in full
        return f"{value:,.6g} {suffix}"
    for factor, prefix in _PREFIXES:
        if abs(value) >= factor:
            return f"{value / factor:.4g} {prefix}{suffix}"
    return f"{value:,.10g} {suffix}"


def in_terms_of(verdict: Verdict, value: float | None) -> str:
    """A value in the terms of a verdict's limit: `1.031x` for ratios, points for drops of a ratio."""
    if value is None:
        return "unknown"
    if verdict.kind in ("max_ratio", "min_ratio"):
        return f"{value:.4g}x"
    if verdict.kind == "max_drop" and verdict.unit == "ratio":
        return f"{100 * value:+.2f} points"
    return quantity(value, verdict.unit)


def limit_in_words(verdict: Verdict) -> str:
    """`≤ 500 kB`, `≤ 1.05x baseline`, `drop ≤ 1.00 points`."""
    if verdict.kind in ("max_ratio", "min_ratio"):
        return f"{SIGNS[verdict.kind]} {verdict.limit:g}x baseline"
    if verdict.kind == "max_drop":
        return f"drop ≤ {in_terms_of(verdict, verdict.limit).lstrip('+')}"
    return f"{SIGNS[verdict.kind]} {quantity(verdict.limit, verdict.unit)}"


def interval_in_words(verdict: Verdict) -> str:
    """`1.012 to 1.048x`, or "" where the value is exact or unknown."""
    if verdict.exact or verdict.value is None or (verdict.low is None and verdict.high is None):
        return ""
    low, high = (in_terms_of(verdict, end) if end is not None else "?" for end in (verdict.low, verdict.high))
    if low.partition(" ")[2] == high.partition(" ")[2]:  # the unit once is enough
        low = low.partition(" ")[0]
    return f"{low.removesuffix('x')} to {high}"


def describe(verdict: Verdict, finding: Finding | None, sureness: tuple[float, float]) -> str:
    """The whole finding of a verdict in one sentence.

    Args:
        sureness: confidence of the lower and of the upper end of the interval, each by itself.
    """
    limit = f"limit {limit_in_words(verdict)}"
    if finding is None or verdict.value is None:
        return f"{verdict.label}: {verdict.reason}; {limit}"
    spread = interval_in_words(verdict)
    sure = " / ".join(f"{100 * p:.3g} %" for p in sureness)
    spread = f" ({spread}, ends sure to {sure}, n = {verdict.n:,})" if spread else ""
    parts = [f"{verdict.label}: {in_terms_of(verdict, verdict.value)}{spread}, {limit}"]
    parts += [text for text in (verdict.reason, finding.method, finding.remark) if text]
    if verdict.more_samples:
        parts.append(f"about {verdict.more_samples:,} more samples would decide")
    return "; ".join(parts)
