"""The report as markdown: for merge-request comments and step summaries."""

from edgepress.gate.verdict import Judgement, Verdict
from edgepress.gate.wording import SYMBOLS, in_terms_of, interval_in_words, limit_in_words
from edgepress.measure.record import Evidence
from edgepress.report.changes import Change, changes
from edgepress.report.view import refusals


def render_markdown(evidence: Evidence, judgement: Judgement) -> str:
    """Verdicts first, then what was gained and lost, then what each step did and what was refused."""
    sections = [f"## {evidence.name}: {judgement.headline}", verdict_table(judgement), _change_table(evidence)]
    sections += [_steps(evidence), _notes(evidence, judgement), _reproduce(evidence)]
    return "\n\n".join(section for section in sections if section) + "\n"


def verdict_section(judgement: Judgement) -> str:
    """The verdicts alone, under a heading: for a step summary."""
    notes = [f"- {text}" for text in (*judgement.improvements, *judgement.notes)]
    parts = [f"## {judgement.subject}: {judgement.headline}", verdict_table(judgement), "\n".join(notes)]
    return "\n\n".join(part for part in parts if part) + "\n"


def verdict_table(judgement: Judgement) -> str:
    """One row per verdict; "" if there are none."""
    if not judgement.verdicts:
        return ""
    rows = [_verdict_row(verdict) for verdict in judgement.verdicts]
    return table(("", "budget", "value", "interval", "limit"), rows)


def _verdict_row(verdict: Verdict) -> tuple[str, ...]:
    mark = f"{SYMBOLS[verdict.outcome]} {verdict.outcome}" + (" (warn)" if verdict.severity == "warn" else "")
    value = in_terms_of(verdict, verdict.value)
    spread = interval_in_words(verdict) or ("exact" if verdict.exact else verdict.reason)
    return mark, verdict.label, value, spread, limit_in_words(verdict)


def _change_table(evidence: Evidence) -> str:
    rows = [_change_row(change) for change in changes(evidence)]
    return table(("metric", "baseline", "compressed", "change"), rows) if rows else ""


def _change_row(change: Change) -> tuple[str, ...]:
    return change.label, change.before, change.after, change.difference


def _steps(evidence: Evidence) -> str:
    lines = [f"- **{step.name}** ({step.kind}): {step.summary}" for step in evidence.steps]
    lines += [
        f"- refused at {', '.join(f'`{node}`' for node in r.nodes)} ({r.step}): found {r.found}, needed {r.needed}"
        for r in refusals(evidence)
    ]
    return "\n".join(["### Steps", "", *lines]) if lines else ""


def _notes(evidence: Evidence, judgement: Judgement) -> str:
    lines = [f"- {text}" for text in (*judgement.improvements, *judgement.notes, *evidence.notes)]
    return "\n".join(["### Notes", "", *lines]) if lines else ""


def _reproduce(evidence: Evidence) -> str:
    place = evidence.environment
    return (
        f"Reproduce: `{evidence.command}` (seed {evidence.seed}, edgepress {evidence.edgepress_version}, {place.cpu})"
    )


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A markdown table; bars and line breaks in cells are made harmless."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in row) + " |" for row in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
