"""What `init` writes loads without an edit, and says what it could not know."""

from pathlib import Path

import numpy as np
import pytest

from edgepress.errors import UserError
from edgepress.recipe import Recipe, parse_recipe
from edgepress.recipe.data import CsvSource, DigitsSource, ImageFolderSource, NpzSource, TextLinesSource
from edgepress.recipe.starter import Start, starter_text


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "net.py").write_text("def build(width=8):\n    raise AssertionError('not to be run')\n")
    (tmp_path / "net.safetensors").write_bytes(b"")
    (tmp_path / "net.onnx").write_bytes(b"")
    np.savez(tmp_path / "train.npz", pixels=np.zeros((4, 1, 8, 8)), digit=np.zeros(4))
    return tmp_path


def made(project: Path, start: Start) -> Recipe:
    folder = project / "recipes"
    return parse_recipe(starter_text(start, folder), name="made", base=folder)


def refused(project: Path, start: Start) -> UserError:
    with pytest.raises(UserError) as caught:
        starter_text(start, project / "recipes")
    return caught.value


def test_a_factory_with_weights_and_data(project: Path) -> None:
    start = Start("net.py:build", ["image=1x8x8"], Path("net.safetensors"), "train.npz", "digits")
    recipe = made(project, start)
    assert recipe.model.factory == f"{project}/net.py:build"
    assert recipe.model.weights == project / "net.safetensors"
    assert recipe.model.inputs["image"].shape == (1, 8, 8)
    train, evaluate = recipe.data.train, recipe.data.evaluate
    assert isinstance(train, NpzSource)
    assert (train.inputs, train.targets, train.path) == ("pixels", "digit", project / "train.npz")
    assert isinstance(evaluate, DigitsSource)
    assert evaluate.split == "test"
    assert [item.kind for item in recipe.steps] == ["prune", "train", "quantize", "export"]


def test_without_data_only_what_needs_none_is_planned(project: Path) -> None:
    recipe = made(project, Start("net.onnx"))
    assert recipe.model.door == "onnx"
    assert [item.kind for item in recipe.steps] == ["prune", "export"]
    assert not recipe.measure.accuracy


def test_other_doors_and_types(project: Path) -> None:
    assert made(project, Start("org/some-model")).model.huggingface == "org/some-model"
    assert made(project, Start("a.b:c", ["ids=128:int64"])).model.inputs["ids"].dtype == "int64"
    (project / "null").mkdir()
    assert made(project, Start("null")).model.door == "huggingface"


def test_other_sources(project: Path) -> None:
    (project / "a, b.csv").write_text("x,y,true\n1,2,0\n")
    (project / "t.tsv").write_text("text, with comma\tlabel\n")
    (project / "lines.txt").write_text("hello\n")
    (project / "pictures").mkdir()
    table = made(project, Start("net.onnx", train="a, b.csv")).data.train
    assert isinstance(table, CsvSource)
    assert (table.target, table.path.name) == ("true", "a, b.csv")
    tabbed = made(project, Start("net.onnx", train="t.tsv")).data.train
    assert isinstance(tabbed, CsvSource) and tabbed.target == "label"
    assert isinstance(made(project, Start("net.onnx", train="pictures")).data.train, ImageFolderSource)
    assert isinstance(made(project, Start("net.onnx", train="lines.txt")).data.train, TextLinesSource)


def test_several_inputs_in_one_archive(project: Path) -> None:
    np.savez(project / "text.npz", ids=np.zeros((4, 32), np.int64), label=np.zeros(4), mask=np.zeros((4, 32)))
    source = made(project, Start("net.onnx", train="text.npz")).data.train
    assert isinstance(source, NpzSource) and (source.inputs, source.targets) == (("ids", "mask"), "label")


def test_what_cannot_be_understood_is_refused(project: Path) -> None:
    assert "build" in refused(project, Start("net.py:bild", ["x=3"])).fix
    assert "net.onnx" in refused(project, Start("nett.onnx")).fix
    assert "needs the shapes" in refused(project, Start("net.py:build")).what
    assert "name=AxBxC" in refused(project, Start("net.py:build", ["1x8x8"])).expected
    assert "file.py:" in refused(project, Start("net.tflite")).expected.lower()
    assert "'classification'" in refused(project, Start("net.onnx", task="clasification")).fix
    (project / "bad.py").write_text("def build(:\n")
    assert "not Python" in refused(project, Start("bad.py:build")).what


def test_data_that_cannot_be_understood_is_refused(project: Path) -> None:
    np.savez(project / "three.npz", a=np.zeros(1), b=np.zeros((1, 2)), c=np.zeros(1))
    (project / "fake.npz").write_bytes(b"no archive")
    (project / "one.csv").write_text("x\n1\n")
    assert "which array" in refused(project, Start("net.onnx", train="three.npz")).what
    assert "not an .npz" in refused(project, Start("net.onnx", train="fake.npz")).what
    assert "no table" in refused(project, Start("net.onnx", train="one.csv")).what
    assert "not a data source" in refused(project, Start("net.onnx", train="net.onnx")).what
    assert "no such file" in refused(project, Start("net.onnx", train="trian.npz")).what


def test_images_without_classes_get_steps_that_need_no_labels(project: Path) -> None:
    photos = project / "photos"
    photos.mkdir()
    (photos / "1.png").write_bytes(b"")
    text = starter_text(Start(f"{project / 'net.py'}:build", ["image=3x8x8"], train=str(photos)), project)
    assert [item.kind for item in parse_recipe(text, name="r", base=project).steps] == ["prune", "quantize", "export"]
