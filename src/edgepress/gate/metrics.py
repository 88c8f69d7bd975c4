"""Finding a metric in the evidence, also one that follows from others (a percentile, churn, the sum of all layers)."""

import re
from collections.abc import Callable
from difflib import get_close_matches

from edgepress.errors import UserError
from edgepress.measure.record import Evidence, Measurement, Subject

WORST_OF: dict[str, str] = {"worst_class_accuracy": "class", "worst_slice_accuracy": "slice"}
"""Metrics judged over all classes or slices at once."""

ACCURACY_NAMES = frozenset({"accuracy", "top1", "top1_accuracy"})
"""Metrics that `Evidence.paired` speaks about."""

KNOWN = frozenset(
    {"size_bytes", "compressed_bytes", "params", "macs", "operators", "largest_activation_bytes", "flash_bytes"}
    | {"ram_bytes", "arena_bytes", "stack_bytes", "constant_bytes", "peak_memory_bytes", "peak_rss_bytes"}
    | {"runtime_memory_bytes", "latency_ms", "load_ms", "first_inference_ms", "throughput_per_s"}
    | {"energy_mj", "accuracy", "churn", "parity_max_abs", "parity_flip_rate", *WORST_OF}
)
"""Names edgepress itself gives. A budget on one of them that was not measured is inconclusive, not a typing error."""

MACHINE_UNITS = frozenset({"s", "ms", "us", "ns", "J", "mJ", "uJ", "W", "mW", "1/s", "fps", "images/s", "samples/s"})
"""Units whose values belong to the machine they were measured on."""

_PERCENTILE = re.compile(r"(?P<stem>\w+)_p(?P<share>\d{1,2}(?:_\d+)?)_(?P<unit>[a-z]+)$")


def is_machine_bound(measurement: Measurement) -> bool:
    """Whether the value means nothing on another machine: a measured time, energy or resident memory."""
    bound = measurement.unit in MACHINE_UNITS or (measurement.unit == "bytes" and measurement.name != "size_bytes")
    return measurement.source == "measured" and bound


def find(subject: Subject, evidence: Evidence | None, metric: str, target: str = "") -> Measurement | None:
    """The measurement of `metric` for a subject: as recorded, or derived from what is recorded.

    Args:
        evidence: where churn and parity come from; `None` for a subject that stands alone (a baseline file).

    Raises:
        UserError: the metric was measured on several targets and the budget names none of them.
    """
    recorded = [m for m in subject.measurements if m.name == metric and target in ("", m.target)]
    if not target:  # what ships has a size of its own, beside those of the files for single targets
        recorded = [m for m in recorded if not m.target] or recorded
    if len({m.target for m in recorded}) > 1:
        raise UserError(
            f"budget on {metric}: it was measured on several targets",
            found=", ".join(sorted({m.target or "(none)" for m in recorded})),
            expected="one of them in the budget's `target`",
            fix=f"add `target: {recorded[0].target or recorded[1].target}` to the budget",
        )
    if recorded:
        return recorded[0]
    derived = DERIVED.get(metric)
    if derived:
        return derived(subject, evidence)
    return _percentile(subject, metric, target)


def _percentile(subject: Subject, metric: str, target: str) -> Measurement | None:
    """`latency_p99_ms` from the samples of `latency_ms`; its limits follow from the samples too."""
    match = _PERCENTILE.fullmatch(metric)
    whole = match and subject.measurement(f"{match['stem']}_{match['unit']}", target)
    if not match or not whole or not whole.samples:
        return None
    ordered = sorted(whole.samples)
    value = ordered[min(len(ordered) - 1, int(percentile_share(metric) * len(ordered)))]
    update = {"name": metric, "value": value, "low": None, "high": None, "n": len(ordered)}
    return whole.model_copy(update=update)


def percentile_share(metric: str) -> float:
    """0.99 for `latency_p99_ms`, 0 for a metric that is no percentile."""
    match = _PERCENTILE.fullmatch(metric)
    return float(match["share"].replace("_", ".")) / 100 if match else 0.0


def _layer_total(field: str) -> Callable[[Subject, Evidence | None], Measurement | None]:
    def total(subject: Subject, _: Evidence | None) -> Measurement | None:
        if not subject.layers:
            return None
        value = sum(getattr(layer, field) for layer in subject.layers)
        return Measurement(name=field, value=value, unit="count", source="counted", method="sum over layers")

    return total


def _churn(subject: Subject, evidence: Evidence | None) -> Measurement | None:
    if not evidence or not evidence.paired or not evidence.paired.n or subject is not evidence.compressed:
        return None
    paired = evidence.paired
    return Measurement(
        name="churn", value=paired.flips / paired.n, unit="ratio", n=paired.n, method="predictions that differ"
    )


def _parity(field: str) -> Callable[[Subject, Evidence | None], Measurement | None]:
    def worst(subject: Subject, evidence: Evidence | None) -> Measurement | None:
        hops = evidence.parity if evidence and subject is evidence.compressed else ()
        values = [(getattr(hop, field), hop) for hop in hops if getattr(hop, field) is not None]
        if not values:
            return None
        value, hop = max(values, key=lambda pair: pair[0])
        # The error on these very samples: exact, no claim about others.
        words = f"{hop.first} against {hop.second}, worst of {len(values)}"
        return Measurement(
            name=f"parity_{field}", value=value, unit="", n=hop.n, low=value, high=value, source="counted", method=words
        )

    return worst


DERIVED: dict[str, Callable[[Subject, Evidence | None], Measurement | None]] = {
    "params": _layer_total("params"),
    "macs": _layer_total("macs"),
    "churn": _churn,
    "parity_max_abs": _parity("max_abs"),
    "parity_flip_rate": _parity("flip_rate"),
}


def check_known(metric: str, evidence: Evidence) -> None:
    """Raise `UserError` for a metric that neither the evidence nor edgepress knows: most likely a typing error."""
    recorded = {m.name for subject in (evidence.baseline, evidence.compressed) for m in subject.measurements}
    if metric in recorded | KNOWN or _PERCENTILE.fullmatch(metric):
        return
    near = get_close_matches(metric, sorted(recorded | KNOWN), n=1)
    raise UserError(
        f"budget on {metric}: no such metric",
        found=", ".join(sorted(recorded)) or "no measurements at all",
        expected="a metric of the evidence, or one that edgepress measures",
        fix=f"did you mean `{near[0]}`?" if near else f"known metrics: {', '.join(sorted(KNOWN))}",
    )
