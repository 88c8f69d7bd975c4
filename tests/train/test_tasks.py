"""Each task: its loss falls, its metric is what it says, and wrong targets are refused."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from edgepress.data import Dataset
from edgepress.errors import UserError
from edgepress.ir import capture
from edgepress.train import TASKS, TrainOptions, evaluate, fit
from edgepress.train.evaluate import evaluate_module
from edgepress.train.metrics import kernel_distance
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
    "generation": (nn.Linear(6, 6), Dataset((VALUES,), 0.3 * VALUES.flip(0) + 2)),
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


def test_macro_f1_weighs_classes_equally() -> None:
    """Labels 0 0 0 1, answers 0 0 1 1: F1 is 4/5 for class 0 and 2/3 for class 1."""
    data = Dataset((torch.eye(2)[[0, 0, 1, 1]],), torch.tensor([0, 0, 0, 1]))
    assert evaluate_module(lambda x: x, data, get("classification", "f1")) == pytest.approx((4 / 5 + 2 / 3) / 2)


def test_binary_f1_and_auc() -> None:
    logits = torch.tensor([[-2.0], [1.0], [2.0], [-1.0]])
    data = Dataset((logits,), torch.tensor([0, 0, 1, 1]))
    assert evaluate_module(lambda x: x, data, get("binary", "f1")) == pytest.approx(0.5)
    assert evaluate_module(lambda x: x, data, get("binary", "auc")) == pytest.approx(3 / 4)


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize(("task", "metric"), [("anomaly", ""), ("binary", "auc"), ("binary", "f1")])
def test_one_class_alone_has_no_auc_and_no_f1(task: str, metric: str, label: int) -> None:
    data = Dataset((torch.randn(5, 1),), torch.full((5,), label))
    with pytest.raises(UserError, match="is not defined on these labels") as caught:
        evaluate_module(lambda x: 2 * x, data, get(task, metric))
    assert caught.value.found == f"all 5 are {label}"


def test_an_anomaly_detector_learns_from_normal_samples_alone() -> None:
    data, task = Dataset((VALUES,), torch.zeros(len(VALUES))), get("anomaly")
    program = capture(nn.Linear(6, 6), [VALUES[:2]])
    result = fit(program, data, objective=task.objective(), options=TrainOptions(epochs=1), task=task)
    assert not torch.equal(result.program.state()["weight"], program.state()["weight"])


def test_a_metric_of_another_task_is_refused() -> None:
    with pytest.raises(UserError, match="cannot be judged by 'perplexity'") as caught:
        get("binary", "perplexity")
    assert caught.value.expected == "accuracy, f1, auc"


@given(st.integers(2, 8), st.integers(0, 1000))
def test_the_kernel_distance_is_that_of_its_definition(n: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    x, y = torch.rand(n, 1, 2, 3, generator=draw), torch.rand(n, 1, 2, 3, generator=draw)

    def k(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a.flatten() @ b.flatten() / 6 + 1) ** 3)

    within = sum(k(s[i], s[j]) for s in (x, y) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    across = 2 * sum(k(a, b) for a in x for b in y) / n**2
    assert float(kernel_distance(x, y)) == pytest.approx(within - across, abs=1e-5)


def test_the_kernel_distance_has_no_bias_on_few_samples() -> None:
    """Two sets of 8 from one distribution: the mean over 400 draws is 0 within four standard errors."""
    draw = torch.Generator().manual_seed(0)
    values = torch.stack([kernel_distance(*torch.rand(2, 8, 16, generator=draw)) for _ in range(400)])
    assert abs(float(values.mean())) < 4 * float(values.std()) / 20
    far = kernel_distance(torch.rand(8, 16, generator=draw), 1 + torch.rand(8, 16, generator=draw))
    assert float(far) > 10 * float(values.std())


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
