"""Each task: its loss falls, its metric is what it says, and wrong targets are refused."""

import pytest
import torch
from torch import nn

from edgepress.data import Dataset
from edgepress.errors import UserError
from edgepress.ir import capture
from edgepress.train import TASKS, TrainOptions, evaluate, fit
from edgepress.train.evaluate import evaluate_module
from edgepress.train.tasks import IGNORED, check_labels, get

GENERATOR = torch.Generator().manual_seed(0)
VALUES = torch.randn(64, 6, generator=GENERATOR)
IMAGES = torch.randn(64, 1, 6, 6, generator=GENERATOR)
TOKENS = (torch.arange(64)[:, None] + torch.arange(9)[None]) % 7
ABOVE = (VALUES.sum(1) > 0).long()
CASES = {
    "classification": (nn.Linear(6, 2), Dataset((VALUES,), ABOVE)),
    "binary": (nn.Linear(6, 1), Dataset((VALUES,), ABOVE)),
    "regression": (nn.Linear(6, 1), Dataset((VALUES,), VALUES[:, :1] * 2)),
    "reconstruction": (nn.Linear(6, 6), Dataset((VALUES,), ABOVE)),
    "anomaly": (nn.Linear(6, 6), Dataset((VALUES,), ABOVE)),
    "segmentation": (nn.Conv2d(1, 2, 1), Dataset((IMAGES,), (IMAGES[:, 0] > 0).long())),
    "language": (nn.Sequential(nn.Embedding(7, 8), nn.Linear(8, 7)), Dataset((TOKENS[:, :8],), TOKENS[:, 1:])),
}


@pytest.mark.parametrize("name", CASES)
def test_the_loss_falls_and_the_metric_follows(name: str) -> None:
    torch.manual_seed(0)
    module, data = CASES[name]
    task = get(name)
    program = capture(module, [data.inputs[0][:2]])
    options = TrainOptions(epochs=12, batch_size=16, optimizer="adamw", lr=0.05, weight_decay=0.0)
    before = evaluate(program, data, task)
    result = fit(program, data, objective=task.objective(), options=options, task=task)
    assert result.log[-1].loss < 0.7 * result.log[0].loss
    # An autoencoder that learns everything reconstructs anomalies too: only its loss has to fall.
    assert name == "anomaly" or task.is_better(evaluate(result.program, data, task), before)


def test_no_task_is_forgotten() -> None:
    assert set(TASKS) - set(CASES) == {"detection"}  # its networks and data have boxes


def test_accuracy_is_the_share_of_right_answers() -> None:
    data = Dataset((torch.eye(3),), torch.tensor([0, 1, 0]))
    assert evaluate_module(lambda x: x, data, get("classification"), batch_size=2) == pytest.approx(2 / 3)


def test_mean_iou() -> None:
    scores = torch.zeros(1, 2, 1, 4)
    scores[0, 1, 0, :2] = 1  # predicts 1 1 0 0
    data = Dataset((scores,), torch.tensor([[[1, 0, 0, 0]]]))
    assert evaluate_module(lambda x: x, data, get("segmentation")) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_perplexity_skips_padding() -> None:
    logits = torch.zeros(1, 3, 5)
    data = Dataset((logits,), torch.tensor([[1, 2, IGNORED]]))
    assert evaluate_module(lambda x: x, data, get("language")) == pytest.approx(5.0)


def test_anomalies_are_what_is_reconstructed_badly() -> None:
    data = Dataset((torch.tensor([[0.0], [1.0], [5.0]]),), torch.tensor([0, 0, 1]))
    assert evaluate_module(torch.zeros_like, data, get("anomaly")) == 1.0


def test_direction_and_nan() -> None:
    accuracy, error = get("classification"), get("regression")
    assert accuracy.is_better(0.2, 0.1)
    assert error.is_better(0.1, 0.2)
    assert not accuracy.is_better(float("nan"), None)


def test_refusals() -> None:
    with pytest.raises(UserError, match="unknown task 'clasification'"):
        get("clasification")
    with pytest.raises(UserError, match="out of range"):
        check_labels(get("segmentation"), torch.tensor([[0, 2]]), torch.zeros(1, 2, 1, 2))
    assert check_labels(get("segmentation"), torch.tensor([[0, IGNORED]]), torch.zeros(1, 2, 1, 2)) == 2
    with pytest.raises(UserError, match="without targets"):
        evaluate_module(lambda x: x, Dataset((torch.eye(3),), None), get("classification"))
