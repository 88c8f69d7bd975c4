"""What calibration hands out, and that recipes and the training room know the same tasks."""

from typing import get_args

import torch
from torch import nn

from edgepress.data.dataset import Dataset
from edgepress.ir import capture
from edgepress.pipeline.bench import Bench, labelled
from edgepress.pipeline.samples import Samples
from edgepress.recipe.schema import Task
from edgepress.train.tasks import TASKS, get

ROWS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


class Silent:
    def step(self, number: int, total: int, name: str) -> None: ...
    def result(self, summary: str, *, reused: bool, seconds: float | None) -> None: ...
    def tell(self, text: str) -> None: ...
    def progress(self, text: str) -> None: ...


def bench(task: str, targets: torch.Tensor | None) -> Bench:
    data = Dataset((ROWS,), targets)
    program = capture(nn.Linear(4, 4), [ROWS[:2]], input_names=["row"])
    return Bench(program, Samples(data, None, data), get(task), (), 0, "cpu", Silent())


def test_an_autoencoder_is_calibrated_against_its_inputs() -> None:
    for targets in (torch.zeros(6, dtype=torch.int64), None):
        place = bench("anomaly", targets)
        ((inputs, goal),) = labelled(place.calibration_batches())
        assert torch.equal(goal, ROWS)
        assert float(place.loss(inputs[0], goal)) == 0.0


def test_a_classifier_is_calibrated_against_its_labels() -> None:
    labels = torch.arange(6) % 4
    ((_, goal),) = labelled(bench("classification", labels).calibration_batches())
    assert torch.equal(goal, labels)
    assert labelled(bench("classification", None).calibration_batches()) == []


def test_recipes_and_training_know_the_same_tasks() -> None:
    assert set(get_args(Task)) == set(TASKS)
