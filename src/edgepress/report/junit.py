"""Verdicts as JUnit XML, which every CI server shows."""

from xml.etree import ElementTree

from edgepress.gate.verdict import Judgement, Verdict


def to_junit(judgement: Judgement) -> str:
    """One test case per limit: a broken one is a failure, an undecided one an error, one under `warn` is skipped."""
    cases = [_case(judgement, verdict) for verdict in judgement.verdicts]
    counts = {tag: sum(case.find(tag) is not None for case in cases) for tag in ("failure", "error", "skipped")}
    suite = ElementTree.Element(
        "testsuite",
        name=f"edgepress gate {_printable(judgement.subject)}",
        tests=str(len(cases)),
        failures=str(counts["failure"]),
        errors=str(counts["error"]),
        skipped=str(counts["skipped"]),
    )
    suite.extend(cases)
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _case(judgement: Judgement, verdict: Verdict) -> ElementTree.Element:
    name = f"{verdict.label} {verdict.kind} {verdict.limit:g}"
    case = ElementTree.Element(
        "testcase", classname=f"edgepress.{_printable(judgement.subject)}", name=_printable(name)
    )
    if verdict.outcome != "pass":
        tag = {"fail": "failure", "inconclusive": "error"}[verdict.outcome] if verdict.severity == "fail" else "skipped"
        text = _printable(verdict.evidence)
        ElementTree.SubElement(case, tag, message=text, type=verdict.outcome).text = text
    return case


def _printable(text: str) -> str:
    """Without the control characters that XML 1.0 cannot hold."""
    return "".join(c for c in text if c >= " " or c in "\t\n")
