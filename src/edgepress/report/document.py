"""The machine-readable verdict: one JSON object with a published schema."""

from typing import Any, Literal

from edgepress.gate.verdict import Judgement, Outcome
from edgepress.measure.record import Evidence, Record

SCHEMA_FILE = "docs/schemas/verdict.schema.json"


class Document(Record):
    """What `edgepress gate --json` prints and `report.json` holds.

    Attributes:
        outcome, exit_code: of the whole gate: pass 0, fail 1, inconclusive 3.
        evidence: what the judgement rests on; left out by `edgepress gate --json`.
    """

    schema_version: Literal[1] = 1
    outcome: Outcome
    exit_code: int
    judgement: Judgement
    evidence: Evidence | None = None


def document(judgement: Judgement, evidence: Evidence | None = None) -> Document:
    """The judgement, and the evidence if it is to travel along."""
    code = int(judgement.exit_code)
    return Document(outcome=judgement.outcome, exit_code=code, judgement=judgement, evidence=evidence)


def to_json(judgement: Judgement, evidence: Evidence | None = None) -> str:
    """The document as indented JSON with a final newline."""
    return document(judgement, evidence).model_dump_json(indent=1) + "\n"


def schema() -> dict[str, Any]:
    """The JSON Schema of the document, as published in `docs/schemas/`."""
    return Document.model_json_schema(mode="serialization")
