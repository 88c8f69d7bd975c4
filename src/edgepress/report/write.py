"""The report of one run, in three forms that say the same."""

import json
from pathlib import Path

from edgepress.gate.verdict import Judgement
from edgepress.measure.record import Evidence
from edgepress.report.html import render_html
from edgepress.report.markdown import render_markdown


def write(evidence: Evidence, judgement: Judgement, out_dir: Path) -> list[Path]:
    """Write `report.html`, `report.md` and `report.json` into `out_dir`, each atomically; their paths are returned."""
    out_dir.mkdir(parents=True, exist_ok=True)
    texts = {
        "report.html": render_html(evidence, judgement),
        "report.md": render_markdown(evidence, judgement),
        "report.json": render_json(evidence, judgement),
    }
    return [_write_atomically(out_dir / name, text) for name, text in texts.items()]


def render_json(evidence: Evidence, judgement: Judgement) -> str:
    """Evidence and judgement as one JSON object (see `edgepress schema`)."""
    facts = {
        "outcome": judgement.outcome,
        "exit_code": int(judgement.exit_code),
        "judgement": judgement.model_dump(mode="json"),
        "evidence": evidence.model_dump(mode="json"),
    }
    return json.dumps(facts, indent=1, ensure_ascii=False) + "\n"


def _write_atomically(path: Path, text: str) -> Path:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    return partial.replace(path)
