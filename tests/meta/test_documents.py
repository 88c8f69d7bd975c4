"""What the documents say is run: README commands, recipes, docstring examples, links."""

import doctest
import importlib
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from edgepress.recipe import load

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "edgepress"
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))


def shell_lines(text: str) -> Iterator[str]:
    """Commands inside ```sh blocks, comments stripped."""
    for block in re.findall(r"```sh\n(.*?)```", text, re.S):
        for line in block.splitlines():
            if command := line.split("#")[0].strip():
                yield command


README_COMMANDS = [c for c in shell_lines((ROOT / "README.md").read_text()) if c.startswith("edgepress ")]


@pytest.mark.slow
def test_readme_commands_run_in_order(tmp_path: Path, edgepress: Callable[..., CompletedProcess[str]]) -> None:
    """In an empty folder beside the recipes, one after another, as a reader would."""
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    for command in README_COMMANDS:
        done = edgepress(*shlex.split(command)[1:], cwd=tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        assert done.stdout, command
    assert (tmp_path / "runs" / "quickstart" / "report.html").is_file()


def test_readme_shows_the_two_commands() -> None:
    commands = list(shell_lines((ROOT / "README.md").read_text()))
    assert {"make quickstart", "make test"} <= set(commands)


def test_the_recipe_in_the_readme_is_valid(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    path = tmp_path / "recipe.yaml"
    path.write_text(block)
    assert [step.kind for step in load(path).steps] == ["prune", "train", "quantize", "export"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipes_load(path: Path) -> None:
    recipe = load(path)
    assert recipe.name == path.stem
    assert recipe.steps


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#|mailto:)([^)#]+)", path.read_text())
    missing = [target for target in targets if not (path.parent / target).exists()]
    assert not missing


def modules_with_examples() -> list[str]:
    files = (p for p in PACKAGE.rglob("*.py") if ">>>" in p.read_text())
    return sorted(".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts) for p in files)


@pytest.mark.parametrize("name", modules_with_examples())
def test_docstring_examples_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted and not result.failed
