"""The quickstart's network: its weights fit its code, and know what they are said to know."""

from pathlib import Path

import pytest

from edgepress.data import open_source
from edgepress.importers.pytorch import FactorySource, InputSpec, from_factory
from edgepress.train import evaluate
from edgepress.train.tasks import get


def test_the_trained_weights_know_the_test_set(repository: Path) -> None:
    pytest.importorskip("sklearn")
    models = repository / "recipes" / "models"
    source = FactorySource(
        "digits.py:residual_cnn", [InputSpec("image", (1, 8, 8))], weights=models / "digits.safetensors", base=models
    )
    program = from_factory(source)
    test = open_source("digits", {"split": "test"}, models)
    assert program.parameter_count() == 77_290
    assert evaluate(program, test, get("classification")) > 0.985
