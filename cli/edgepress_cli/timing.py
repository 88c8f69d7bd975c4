"""Timing of models for `edgepress gate`: in turns, until the verdict is clear or the time is over."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgepress.gate.budget import Budget
    from edgepress.gate.judge import Reference
    from edgepress.gate.verdict import Judgement
    from edgepress.measure.record import Environment, Evidence, Measurement, Subject


def artifacts_of(evidence: Evidence, subject: Path, target: str) -> dict[str, Path]:
    """Role -> the file of that model which runs on the target; a run names files relative to its own folder."""
    root = subject if subject.is_dir() else subject.parent if subject.suffix == ".json" else Path()
    subjects = {"baseline": evidence.baseline, "compressed": evidence.compressed}
    files = {role: one.artifacts.get(target, one.artifact) for role, one in subjects.items()}
    return {role: root / file for role, file in files.items() if file}


def judge_with_timing(
    evidence: Evidence,
    artifacts: Mapping[str, Path],
    budgets: Sequence[Budget],
    reference: Reference | None,
    target: str,
    seconds: float,
    false_alarm_rate: float,
) -> tuple[Evidence, Judgement]:
    """Evidence with fresh latencies, and the judgement.

    Args:
        artifacts: role ("baseline", "compressed") -> file.

    Raises:
        UserError, MissingTool, ToolError: the target is unknown, its runtime is missing, or it refuses a model.
    """
    from edgepress.gate.sequential import judge_sequentially
    from edgepress.measure.duel import Duel
    from edgepress.measure.environment import describe
    from edgepress.targets import load

    place = describe()
    with Duel(artifacts, load(target)) as duel:

        def measure(pairs: int) -> Evidence:
            if sys.stderr.isatty():
                print(f"timing {pairs} rounds ...", file=sys.stderr)
            return _with_latencies(evidence, duel.measure(pairs), place)

        sampled = judge_sequentially(measure, budgets, reference, seconds=seconds, false_alarm_rate=false_alarm_rate)
        notes = (*sampled.judgement.notes, *duel.warnings, f"timed {sampled.pairs} rounds on {target}")
    return sampled.evidence, sampled.judgement.model_copy(update={"notes": notes})


def _with_latencies(evidence: Evidence, latencies: dict[str, Measurement], place: Environment) -> Evidence:
    for role, latency in latencies.items():
        evidence = with_latency(evidence, role, latency, place)
    return evidence


def with_latency(evidence: Evidence, role: str, latency: Measurement, place: Environment) -> Evidence:
    """The evidence with a fresh latency of its "baseline" or "compressed" subject, taken at `place`."""
    subject: Subject = getattr(evidence, role)
    # Percentiles recorded earlier would no longer belong to these samples.
    others = tuple(m for m in subject.measurements if m.target != latency.target or not m.name.startswith("latency"))
    timed = subject.model_copy(update={"measurements": (*others, latency)})
    return evidence.model_copy(update={role: timed, "environment": place})
