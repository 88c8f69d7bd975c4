"""Which groups of the original network bear a cut, and which do not: the heat map of the report."""

from __future__ import annotations

from edgepress.pipeline.bench import Bench, labelled
from edgepress.prune.sensitivity import sensitivity


def group_sensitivity(bench: Bench) -> dict[str, dict[str, float]]:
    """Group -> share of its channels cut ("-25 %") -> rise of the loss, on the calibration samples."""
    bench.reporter.progress("sensitivity of every group of channels")
    table = sensitivity(bench.original, labelled(bench.calibration_batches()), bench.loss)
    found: dict[str, dict[str, float]] = {}
    for row in table.rows:
        found.setdefault(row.group, {})[f"-{row.ratio:.0%}"] = row.rise
    return found
