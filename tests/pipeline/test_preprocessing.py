"""Baked preprocessing: the run gives the same accuracy from raw values, and says what the artifact takes."""

from pathlib import Path

import numpy as np
import pytest

from edgepress.errors import UserError
from edgepress.pipeline.preprocessing import placed, preprocess_note
from edgepress.pipeline.run import import_model
from edgepress.pipeline.samples import open_samples
from edgepress.recipe import load
from edgepress.train.evaluate import evaluate
from edgepress.train.tasks import get

NUMBERS = ["data.preprocess.scale=0.5", "data.preprocess.mean=[0.1]", "data.preprocess.std=[0.7]"]


def test_both_ways_give_the_same_metric(project: Path) -> None:
    metrics = []
    for baked in ("false", "true"):
        recipe = load(project, [*NUMBERS, f"model.bake_preprocess={baked}"])
        program, data = placed(recipe, import_model(recipe.model))
        samples = open_samples(data, program, seed=0, calibration=8)
        assert samples.evaluate is not None
        metrics.append(evaluate(program, samples.evaluate, get("classification")))
        word = "is baked" if baked == "true" else "is not baked"
        assert word in preprocess_note(recipe)[0]
    assert metrics[0] == pytest.approx(metrics[1])


def test_nothing_to_bake_is_an_error(project: Path) -> None:
    recipe = load(project, ["model.bake_preprocess=true"])
    with pytest.raises(UserError, match="cannot be baked"):
        placed(recipe, import_model(recipe.model))
    assert preprocess_note(recipe) == []


def test_the_layout_is_baked_too_and_the_note_says_so(project: Path) -> None:
    """Data stored channels last: once moved outside, once inside the graph."""
    for name in ("train", "test"):
        stored = dict(np.load(project.parent / f"{name}.npz"))
        np.savez(project.parent / f"{name}.npz", images=stored["images"].transpose(0, 2, 3, 1), labels=stored["labels"])
    metrics = {}
    for baked in ("false", "true"):
        recipe = load(project, ["data.preprocess.layout=nhwc", f"model.bake_preprocess={baked}"])
        program, data = placed(recipe, import_model(recipe.model))
        samples = open_samples(data, program, seed=0, calibration=8)
        assert samples.evaluate is not None
        metrics[baked] = evaluate(program, samples.evaluate, get("classification"))
        assert preprocess_note(recipe)[0].startswith(f"the layout is {'baked' if baked == 'true' else 'not baked'}")
    assert program.example_inputs[0].shape[1:] == (6, 6, 1)
    assert metrics["true"] == pytest.approx(metrics["false"])
