"""The recipes of the families: all of them load and plan, three are trained and pressed from end to end."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from safetensors.torch import load_file

from edgepress.errors import UserError
from edgepress.pipeline.run import execute
from edgepress.recipe import load
from edgepress.train.tasks import get

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "recipes" / "families"
WITHOUT_FOLDER = ("capsules", "densenet", "detector", "mobilenet", "policy", "unet")
WITH_FOLDER = (
    "autoencoder", "blood_cells", "cnn", "decoder", "encoder", "gcn", "gru", "lstm", "mlp", "resnet", "tcn", "vit",
)  # fmt: skip
SHORT = {  # few samples and epochs: the whole way matters here, not the result
    "policy": ["data.train.kwargs.count=500", "data.evaluate.kwargs.count=200"],
    "mobilenet": ["data.train.limit=128", "data.evaluate.limit=64"],
    "unet": ["data.train.kwargs.count=32", "data.evaluate.kwargs.count=16"],
    "detector": ["data.train.kwargs.count=32", "data.evaluate.kwargs.count=16"],
}


class Silent:
    def step(self, number: int, total: int, name: str) -> None: ...
    def result(self, summary: str, *, reused: bool, seconds: float | None) -> None: ...
    def tell(self, text: str) -> None: ...
    def progress(self, text: str) -> None: ...


@pytest.fixture(scope="module")
def preparation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare_families", RECIPES / "prepare.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plan(name: str) -> tuple[str, ...]:
    """A dry run with the weights the factory makes: planning needs no training."""
    recipe = load(RECIPES / f"{name}.yaml", ["model.weights=null", "data.calibration.samples=16"])
    return execute(recipe, Path("unused"), dry_run=True, device="cpu", reporter=Silent()).plans


def test_every_recipe_is_in_one_of_the_lists() -> None:
    assert {path.stem for path in RECIPES.glob("*.yaml")} == {*WITHOUT_FOLDER, *WITH_FOLDER, "gan"}


@pytest.mark.parametrize("name", WITHOUT_FOLDER)
def test_plans_without_any_folder_of_data(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEPRESS_DATA", raising=False)
    assert len(plan(name)) == len(load(RECIPES / f"{name}.yaml").steps)


@pytest.mark.data
@pytest.mark.parametrize("name", WITH_FOLDER)
def test_plans_with_real_data(name: str, data_dir: Path) -> None:
    assert len(plan(name)) == len(load(RECIPES / f"{name}.yaml").steps)


def test_real_data_that_is_not_there_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEPRESS_DATA", raising=False)
    with pytest.raises(UserError, match="needs real data"):
        plan("gcn")


@pytest.mark.parametrize("name", sorted(SHORT))
def test_from_training_to_measurement(name: str, preparation: ModuleType, tmp_path: Path) -> None:
    weights = tmp_path / f"{name}.safetensors"
    settings = [f"model.weights={weights}", *SHORT[name], "data.calibration.samples=16", "measure.latency.runs=5"]
    recipe = load(RECIPES / f"{name}.yaml", [*settings, "measure.latency.warmup=2", "steps.1.train.epochs=1"])
    preparation.TRAINING[name] = preparation.options(2)
    assert get(recipe.task).metric in preparation.prepare(recipe, name, weights)
    assert load_file(weights)
    evidence = execute(recipe, tmp_path / "run", dry_run=False, device="cpu", reporter=Silent()).evidence
    assert evidence is not None
    before, after = (_figures(subject) for subject in (evidence.baseline, evidence.compressed))
    assert after["size_bytes"] < before["size_bytes"]
    assert after["macs"] < before["macs"]
    assert get(recipe.task).metric in before.keys() & after.keys()


def _figures(subject: Any) -> dict[str, float]:
    return {m.name: m.value for m in subject.measurements if m.value is not None}
