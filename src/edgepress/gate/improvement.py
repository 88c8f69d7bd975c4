"""Unexpected good news: a baseline that is beaten beyond doubt lets the next regression hide behind it."""

from edgepress.gate.finding import is_exact, ratio
from edgepress.gate.judge import Reference
from edgepress.gate.metrics import find, is_machine_bound
from edgepress.measure.record import Evidence, Measurement

WORTH_MENTIONING = 0.02
ERROR_RATE = 0.01


def improvements(evidence: Evidence, reference: Reference) -> tuple[str, ...]:
    """Metrics of a committed baseline that are now better by more than 2 %, in words."""
    found = (_improvement(evidence, reference, known) for known in reference.subject.measurements)
    return tuple(text for text in found if text)


def _improvement(evidence: Evidence, reference: Reference, known: Measurement) -> str:
    now = find(evidence.compressed, evidence, known.name, known.target)
    if now is None or not now.value or not known.value or now.source != known.source or known.value <= 0:
        return ""
    if is_machine_bound(now) and reference.machine_class != evidence.environment.machine_class:
        return ""
    value, low, high = ratio(known, now, ERROR_RATE, paired=False).interval
    facing = high if now.better == "lower" else low
    gain = None if facing is None else (1 - facing if now.better == "lower" else facing - 1)
    if gain is None or gain <= WORTH_MENTIONING:
        return ""
    sure = "" if is_exact(now) else " at least"
    return (
        f"{known.name} is{sure} {100 * gain:.1f} % better than {reference.label} ({value:.4g}x): "
        "keep it with `edgepress baseline update`"
    )
