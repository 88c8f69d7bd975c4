"""Print the size of functions and files in src/ and cli/, and fail if they outgrow what is pleasant to read.

Limits: median function under 10 lines, 90th percentile under 40, no file over 500 lines. A function's length is
counted without its docstring: documentation is not weight.
"""

import ast
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_MEDIAN, MAX_P90, MAX_FILE = 10, 40, 500


def function_lengths(tree: ast.AST) -> list[tuple[int, str]]:
    """(lines, name) of each function in `tree`, docstrings left out."""
    functions = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
    return [(_length(function), function.name) for function in functions]


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def main() -> int:
    files = sorted(path for top in ("src", "cli") for path in (ROOT / top).rglob("*.py"))
    sizes = {path: len(path.read_text().splitlines()) for path in files}
    functions = [
        (length, f"{path.relative_to(ROOT)}:{name}")
        for path in files
        for length, name in function_lengths(ast.parse(path.read_text()))
    ]
    lengths = sorted(length for length, _ in functions) or [0]
    median, p90 = statistics.median(lengths), lengths[int(0.9 * (len(lengths) - 1))]
    too_long = {path: size for path, size in sizes.items() if size > MAX_FILE}
    print(f"{len(files)} files, {sum(sizes.values())} lines, longest file {max(sizes.values())}")
    print(f"{len(lengths)} functions, median {median:g} lines, 90th percentile {p90}, longest {lengths[-1]}")
    for length, name in sorted(functions, reverse=True)[:5]:
        print(f"  {length:4d}  {name}")
    for path, size in too_long.items():
        print(f"too long: {path.relative_to(ROOT)} has {size} lines, the limit is {MAX_FILE}")
    return int(bool(too_long) or median >= MAX_MEDIAN or p90 >= MAX_P90)


if __name__ == "__main__":
    sys.exit(main())
