"""The rooms and who may look into whom (docs/design.md, section 3)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "edgepress"

# room -> rooms it may import. `errors` is open to all; `pipeline` is where all meet.
RECORDS = {"measure.record"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "ir": set(),
    "analysis": {"ir"},
    "passes": {"ir", "analysis"},
    "prune": {"ir", "analysis", "passes", "targets.capability"},
    "quantize": {"ir", "analysis", "passes", "targets.capability"},
    "distill": {"ir", "analysis", "passes"},
    "train": {"ir"},
    "data": {"ir"},
    "importers": {"ir"},
    "exporters": {"ir", "passes", "targets", "measure.record"},
    "targets": {"ir", "measure.record"},
    "measure": {"ir", "targets"},
    "recipe": {"gate.budget", "analysis.pruning_terms"},
    "gate": RECORDS | {"measure.stats"},
    "report": RECORDS | {"gate"},
    "pipeline": {
        "ir", "analysis", "passes", "prune", "quantize", "distill", "train", "data",
        "importers", "exporters", "targets", "measure", "recipe",
    },
}  # fmt: skip

# Third-party tools that only one file (or one room) may import, so that their absence is handled in one place.
SINGLE_DOOR = {
    "openvino": 1,
    "tensorrt": 1,
    "pynvml": 1,
    "transformers": 1,
    "unicorn": 1,
    "sklearn": 1,
    "mlflow": 1,
}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """(dotted module, at top level?) of each import in a file."""
    tree = ast.parse(path.read_text())
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, id(node) in top


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def may_import(room: str, target: str) -> bool:
    allowed = ALLOWED[room] | {room, "errors"}
    return any(target == name or target.startswith(name + ".") for name in allowed)


SOURCES = sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.name != "__init__.py")


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    targets = [m.removeprefix("edgepress.") for m, _ in imports(path) if m.startswith("edgepress.")]
    wrong = [target for target in targets if not may_import(room_of(path), target)]
    assert not wrong, f"{room_of(path)} may not import {wrong}"


def test_each_optional_tool_has_one_door() -> None:
    users: dict[str, set[Path]] = {tool: set() for tool in SINGLE_DOOR}
    for path in SOURCES:
        for module, _ in imports(path):
            if module.split(".")[0] in users:
                users[module.split(".")[0]].add(path)
    crowded = {tool: paths for tool, paths in users.items() if len(paths) > SINGLE_DOOR[tool]}
    assert not crowded


def test_optional_tools_are_imported_inside_functions() -> None:
    eager = [(path, m) for path in SOURCES for m, top in imports(path) if top and m.split(".")[0] in SINGLE_DOOR]
    assert not eager


def test_no_room_for_leftovers() -> None:
    assert not [p for p in PACKAGE.rglob("*") if p.stem in {"utils", "common", "helpers", "misc"}]
