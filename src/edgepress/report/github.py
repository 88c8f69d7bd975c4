"""Verdicts where GitHub shows them: annotations beside the code, and the step summary."""

from collections.abc import Iterator

from edgepress.gate.verdict import Judgement


def annotations(judgement: Judgement) -> Iterator[str]:
    """Workflow commands, one per limit that did not pass: `::error` where it binds, `::warning` elsewhere.

    https://docs.github.com/actions/reference/workflow-commands-for-github-actions
    """
    for verdict in judgement.verdicts:
        if verdict.outcome != "pass":
            command = "error" if verdict.severity == "fail" else "warning"
            title = _escape(f"{verdict.label}: {verdict.outcome}").replace(":", "%3A").replace(",", "%2C")
            yield f"::{command} title={title}::{_escape(verdict.evidence)}"
    for text in judgement.improvements:
        yield f"::notice title=better than the baseline::{_escape(text)}"


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
