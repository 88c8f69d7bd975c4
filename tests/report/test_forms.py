"""The other forms of the report: markdown, JSON and its schema, JUnit, annotations, the terminal."""

import io
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from edgepress.errors import ToolError
from edgepress.gate.budget import Budget
from edgepress.gate.judge import judge
from edgepress.gate.verdict import Judgement, Verdict
from edgepress.gate.wording import quantity
from edgepress.measure.record import Evidence, Measurement, RefusalRecord
from edgepress.report.changes import changes
from edgepress.report.document import document, schema, to_json
from edgepress.report.files import write_text
from edgepress.report.github import annotations
from edgepress.report.junit import to_junit
from edgepress.report.markdown import render_markdown
from edgepress.report.terminal import print_summary
from edgepress.report.view import refusals


def test_the_published_schema_is_the_real_one(repository: Path) -> None:
    published = json.loads((repository / "docs/schemas/verdict.schema.json").read_text())
    assert published == schema()


def conforms(value: Any, rule: dict[str, Any], root: dict[str, Any]) -> bool:
    """Whether a value keeps the parts of JSON Schema that ours uses."""
    if "$ref" in rule:
        return conforms(value, root["$defs"][rule["$ref"].rsplit("/", 1)[1]], root)
    if "anyOf" in rule:
        return any(conforms(value, one, root) for one in rule["anyOf"])
    if "const" in rule or "enum" in rule:
        return value in rule.get("enum", [rule.get("const")])
    types = {"object": dict, "array": list, "string": str, "number": (int, float), "integer": int, "boolean": bool}
    if rule.get("type") == "null":
        return value is None
    if "type" in rule and (
        not isinstance(value, types[rule["type"]]) or isinstance(value, bool) != (rule["type"] == "boolean")
    ):
        return False
    if isinstance(value, dict):
        known = rule.get("properties", {})
        extra = rule.get("additionalProperties", True)
        named = all(name in value for name in rule.get("required", ()))
        inner = all(conforms(v, known[k], root) if k in known else extra is not False for k, v in value.items())
        return named and inner
    return all(conforms(item, rule.get("items", {}), root) for item in value) if isinstance(value, list) else True


def test_json_keeps_its_schema(evidence: Evidence, judgement: Judgement) -> None:
    facts = json.loads(to_json(judgement, evidence))
    assert conforms(facts, schema(), schema())
    assert facts["exit_code"] == document(judgement).exit_code == 3
    facts["judgement"]["verdicts"][0]["outcome"] = "perhaps"
    assert not conforms(facts, schema(), schema())


def test_markdown_has_rows_of_equal_width(evidence: Evidence, judgement: Judgement) -> None:
    text = render_markdown(evidence, judgement)
    assert text.startswith("## resnet20-cifar10-edge: INCONCLUSIVE")
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(tables) == 2
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    assert "refused at `layer2.0.shortcut`" in text
    assert evidence.command in text


def test_nodes_refused_for_one_reason_share_a_row(evidence: Evidence) -> None:
    one, two = (RefusalRecord(step="quantize", node=n, found="no kernel", needed="one") for n in ("a", "b"))
    step = evidence.steps[0].model_copy(update={"refusals": (one, two)})
    (row,) = refusals(evidence.model_copy(update={"steps": (step,)}))
    assert row == ("quantize", ("a", "b"), "no kernel", "one")


def test_a_bar_in_a_name_does_not_split_a_cell(evidence: Evidence) -> None:
    text = render_markdown(evidence, judge(evidence, [Budget(metric="size_bytes", max=1, name="a|b\nc")]))
    assert "a\\|b c" in text


def verdict(**fields: Any) -> Verdict:
    known: dict[str, Any] = {
        "label": "size",
        "metric": "size_bytes",
        "kind": "max",
        "limit": 1,
        "evidence": "e",
        "reason": "r",
    }
    return Verdict(**{**known, **fields})


EVERY_KIND = Judgement(
    subject="m\x00odel <&>",
    verdicts=(
        verdict(outcome="pass"),
        verdict(outcome="fail", evidence="100 % too large:\nfar, too large"),
        verdict(outcome="inconclusive"),
        verdict(outcome="fail", severity="warn"),
    ),
    improvements=("smaller",),
)


def test_junit_tells_the_kinds_apart() -> None:
    suite = ElementTree.fromstring(to_junit(EVERY_KIND))[0]
    assert [suite.attrib[key] for key in ("tests", "failures", "errors", "skipped")] == ["4", "1", "1", "1"]
    assert [[child.tag for child in case] for case in suite] == [[], ["failure"], ["error"], ["skipped"]]
    assert suite[1][0].attrib["message"].startswith("100 % too large")


def test_annotations_are_escaped() -> None:
    lines = list(annotations(EVERY_KIND))
    assert lines[0] == "::error title=size%3A fail::100 %25 too large:%0Afar, too large"
    assert [line.split(" ")[0] for line in lines] == ["::error", "::error", "::warning", "::notice"]


@pytest.mark.parametrize("width", [100, 80])
def test_the_terminal_summary_fits(evidence: Evidence, judgement: Judgement, width: int) -> None:
    stream = io.StringIO()
    print_summary(Console(file=stream, width=width), evidence, judgement)
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert lines[-1].startswith("INCONCLUSIVE")


def test_differences_within_the_noise_are_not_coloured(evidence: Evidence) -> None:
    rows = {row.metric: row for row in changes(evidence)}
    assert rows["accuracy"].direction == "unclear"
    assert rows["latency_ms"].direction == rows["size_bytes"].direction == "better"
    assert rows["energy_mj"].direction == "unknown"
    one = Measurement(name="load_ms", value=40, unit="ms", n=5)
    both = {"baseline": (one,), "compressed": (one.model_copy(update={"value": 47}),)}
    subjects = {name: getattr(evidence, name).model_copy(update={"measurements": m}) for name, m in both.items()}
    load = next(r for r in changes(evidence.model_copy(update=subjects)) if r.metric == "load_ms")
    assert (load.direction, load.remark) == ("unclear", "n = 5: no interval")
    assert (rows["size_bytes"].difference, rows["latency_ms"].difference) == ("5.85x smaller", "2.86x faster")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "ms", "unknown"),
        (0.915, "ratio", "91.50 %"),
        (367_853, "bytes", "367.9 kB"),
        (7212, "count", "7,212"),
        (41_000_000, "count", "41 M"),
        (0.31, "ms", "0.31 ms"),
    ],
)
def test_quantities(value: float | None, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ToolError, match="cannot be written"):
        write_text(tmp_path / "file" / "below.txt", "text")
