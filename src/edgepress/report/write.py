"""The report of one run, in three forms that say the same."""

from pathlib import Path

from edgepress.errors import ToolError
from edgepress.gate.verdict import Judgement
from edgepress.measure.record import Evidence
from edgepress.report.document import to_json
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


def write_text(path: Path, text: str) -> Path:
    """Write a file atomically, making its folder.

    Raises:
        ToolError: the disk is full, or the place cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        return partial.replace(path)
    except OSError as error:
        raise ToolError(f"{path} cannot be written", found=error.strerror or str(error)) from error
