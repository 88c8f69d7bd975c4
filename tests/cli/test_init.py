"""`edgepress init` writes a recipe that loads, and never over another file."""

import json
from pathlib import Path

import numpy as np
import pytest

from edgepress.recipe import load


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text("def build():\n    ...\n")
    return tmp_path


def test_a_recipe_for_a_factory(edgepress, project: Path) -> None:
    words = ["net.py:build", "--input", "image=1x8x8", "--train", "digits", "--evaluate", "digits"]
    done = edgepress("init", *words, "--out", "recipes/first.yaml", cwd=project)
    assert done.returncode == 0, done.stderr
    assert "edgepress run recipes/first.yaml --dry-run" in done.stdout
    recipe = load(project / "recipes" / "first.yaml")
    assert recipe.model.factory == f"{project}/net.py:build"
    assert [item.kind for item in recipe.steps] == ["prune", "train", "quantize", "export"]


def test_as_json(edgepress, project: Path) -> None:
    done = edgepress("init", "net.py:build", "--input", "x=3", "--json", cwd=project)
    assert json.loads(done.stdout) == {"recipe": "recipe.yaml"}


def test_nothing_is_overwritten(edgepress, project: Path) -> None:
    (project / "recipe.yaml").write_text("precious")
    done = edgepress("init", "net.py:build", "--input", "x=3", cwd=project)
    assert done.returncode == 2
    assert "is there already" in done.stderr
    assert (project / "recipe.yaml").read_text() == "precious"


@pytest.mark.parametrize("words", [["nit.py:build"], ["net.py:bild", "--input", "x=3"], ["net.py:build"]], ids=str)
def test_what_cannot_be_understood_leaves_nothing(edgepress, project: Path, words: list[str]) -> None:
    done = edgepress("init", *words, cwd=project)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 3
    assert not (project / "recipe.yaml").exists()


def test_a_place_that_cannot_be_written(edgepress, project: Path) -> None:
    (project / "blocked").write_text("")
    done = edgepress("init", "net.py:build", "--input", "x=3", "--out", "blocked/recipe.yaml", cwd=project)
    assert done.returncode == 2
    assert "cannot be written" in done.stderr


def test_what_the_network_reads_is_told_by_the_data(edgepress, project: Path) -> None:
    done = edgepress("init", "net.py:build", "--train", "digits", cwd=project)
    assert done.returncode == 0, done.stderr
    (read,) = load(project / "recipe.yaml").model.inputs.items()
    assert (read[0], list(read[1].shape)) == ("image", [1, 8, 8])


def test_data_that_cannot_be_opened_is_named(edgepress, project: Path) -> None:
    (project / "empty").mkdir()
    done = edgepress("init", "net.py:build", "--train", "empty", cwd=project)
    assert done.returncode == 2
    assert "no images in" in done.stderr
    assert not (project / "recipe.yaml").exists()


def test_several_inputs_keep_the_names_of_their_arrays(edgepress, project: Path) -> None:
    np.savez(project / "text.npz", ids=np.zeros((4, 32), np.int64), mask=np.zeros((4, 32)), label=np.zeros(4, np.int64))
    done = edgepress("init", "net.py:build", "--train", "text.npz", cwd=project)
    assert done.returncode == 0, done.stderr
    inputs = load(project / "recipe.yaml").model.inputs
    assert {name: (i.shape, i.dtype) for name, i in inputs.items()} == {
        "ids": ((32,), "int64"),
        "mask": ((32,), "float32"),
    }
