"""The steps that led to a run's artifact: its folder may hold those of other settings and of ablations, too."""

from __future__ import annotations

import json
from pathlib import Path

from edgepress.measure.record import Evidence
from edgepress.pipeline.digest import data_digest
from edgepress.pipeline.run import EVIDENCE
from edgepress.pipeline.store import MANIFEST


def lineage(run: Path) -> list[Path]:
    """Folders of the steps from import to export, each the input of the next; none if the run has not finished."""
    if not (run / EVIDENCE).is_file():
        return []
    manifests = {file.parent: json.loads(file.read_bytes()) for file in (run / "steps").glob(f"*/{MANIFEST}")}
    by_content = {data_digest(manifest["files"]): folder for folder, manifest in manifests.items()}
    artifact = Evidence.model_validate_json((run / EVIDENCE).read_bytes()).compressed.artifact
    folder: Path | None = (run / artifact).parent
    found: list[Path] = []
    while folder in manifests and folder not in found:
        found.append(folder)
        folder = by_content.get(manifests[folder]["key_parts"].get("input", ""))
    return found[::-1]
