"""Write the tables of docs/onnx-import.md from the results of files.py.

    python benchmarks/onnx_import/tables.py

Each part of the document between `<!-- NAME -->` and `<!-- end NAME -->` is made from NAME.json.
"""

from collections.abc import Sequence
from pathlib import Path

from files import FileResult, kept_results, summary

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "onnx-import.md"
PARTS = ("zoo", "strangers")
LONGEST = 260


def section(results: Sequence[FileResult]) -> list[str]:
    """Counts in words, a line for each origin, and each file of which something is left undone, with the reason."""
    left = [r for r in results if not (r.imports and r.matches and r.quantized.done and r.pruned.done)]
    return [
        f"Of {len(results)} files {sum(r.imports for r in results)} import, {sum(r.matches for r in results)} match, "
        f"{sum(r.quantized.done for r in results)} are quantized to int8 and {sum(r.pruned.done for r in results)} "
        "lose a fifth of their multiply-accumulates; what is quantized or pruned was exported and run in onnxruntime.",
        "",
        *summary(list(results)),
        "",
        *(["| not everything | what is left undone |", "|---|---|", *map(_left, left)] if left else []),
    ]


def _left(result: FileResult) -> str:
    reasons = [] if result.imports else [f"import: {result.reason}"]
    if result.imports and not result.matches:
        reasons.append(f"match: {result.reason}")
    if result.imports and not result.quantized.done:
        reasons.append(f"int8: {result.quantized.reason or 'not tried'}")
    if result.imports and not result.pruned.done:
        reasons.append(f"a fifth pruned: {_short(result.pruned.reason) or 'not tried'}")
    words = "; ".join(reasons).replace("|", "/").replace("\n", " ")
    return f"| `{result.file}` | {words if len(words) <= LONGEST else words[: LONGEST - 1] + '…'} |"


def _short(reason: str) -> str:
    """Of "the budget is out of reach ...; what holds the channels" the second half."""
    budget, _, why = reason.partition("refusals of `edgepress inspect`; ")
    return f"not so much can go: {why}" if "out of reach" in budget and why else reason


def written(document: str, name: str, lines: Sequence[str]) -> str:
    """The document with that part replaced."""
    start, end = f"<!-- {name} -->", f"<!-- end {name} -->"
    before, _, rest = document.partition(start)
    _, found, after = rest.partition(end)
    assert found, f"{DOCUMENT} has no part {name}"
    return "\n".join([before + start, *lines, end + after])


def main() -> None:
    document = DOCUMENT.read_text()
    for name in PARTS:
        results = kept_results(HERE / f"{name}.json")
        document = written(document, name, section([results[file] for file in sorted(results)]))
    DOCUMENT.write_text(document)


if __name__ == "__main__":
    main()
