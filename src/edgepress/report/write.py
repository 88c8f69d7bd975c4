"""The report of one run, in three forms that say the same."""

from pathlib import Path

from edgepress.gate.verdict import Judgement
from edgepress.measure.record import Evidence
from edgepress.report.document import to_json
from edgepress.report.files import write_text
from edgepress.report.html import render_html
from edgepress.report.markdown import render_markdown


def write(evidence: Evidence, judgement: Judgement, out_dir: Path) -> list[Path]:
    """Write `report.html`, `report.md` and `report.json` into `out_dir`, each atomically; their paths are returned.

    Raises:
        ToolError: the folder cannot be written.
    """
    texts = {
        "report.html": render_html(evidence, judgement),
        "report.md": render_markdown(evidence, judgement),
        "report.json": render_json(evidence, judgement),
    }
    return [write_text(out_dir / name, text) for name, text in texts.items()]


def render_json(evidence: Evidence, judgement: Judgement) -> str:
    """Verdicts and the evidence they rest on as JSON (schema: `docs/schemas/verdict.schema.json`)."""
    return to_json(judgement, evidence)
