"""Objectives: weighted sums, schedules, taps with projections, and what they refuse."""

import pytest
import torch
from torch import nn

from edgepress.data import Dataset
from edgepress.distill import (
    Objective,
    Tap,
    Term,
    automatic_taps,
    check_comparable,
    losses,
    matching_taps,
    read_terms,
    soft_targets,
)
from edgepress.errors import UserError
from edgepress.ir import Program, capture
from edgepress.train import TrainOptions, fit
from edgepress.train.tasks import get

TASK = get("classification")


class Stages(nn.Module):
    """Convolutions at 8x8 and 4x4, then a head."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.fine = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth))
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.head = nn.Linear(2 * width, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(image))
        for layer in self.fine:
            x = torch.relu(layer(x))
        return self.head(torch.relu(self.down(x)).mean((2, 3)))


class Tokens(nn.Module):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, width)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(width, 2, 2 * width, 0.0, batch_first=True)
                                    for _ in range(depth))  # fmt: skip
        self.head = nn.Linear(width, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))


def network(width: int, depth: int) -> Program:
    torch.manual_seed(width)
    return capture(Stages(width, depth), [torch.randn(2, 1, 8, 8)], input_names=["image"])


@pytest.fixture(scope="module")
def student() -> Program:
    return network(4, 1)


@pytest.fixture(scope="module")
def teacher() -> Program:
    return network(6, 2)


@pytest.fixture(scope="module")
def data() -> Dataset:
    generator = torch.Generator().manual_seed(0)
    return Dataset((torch.randn(64, 1, 8, 8, generator=generator),), torch.arange(64) % 3)


def test_the_sum_is_weighted() -> None:
    s, t, y = torch.randn(6, 3), torch.randn(6, 3), torch.arange(6) % 3
    objective = soft_targets(TASK.loss, weight=0.7, temperature=2.0)
    expected = 0.3 * TASK.loss(s, y) + 0.7 * losses.kd(s, t, temperature=2.0)
    torch.testing.assert_close(objective(s, y, t), expected)
    torch.testing.assert_close(soft_targets(None)(s, None, t), losses.kd(s, t, temperature=4.0))


def test_weights_follow_their_schedule() -> None:
    s, t = torch.randn(6, 3), torch.randn(6, 3)
    whole = losses.kd(s, t)
    for schedule, progress, share in (("up", 0.1, 0.5), ("up", 0.5, 1.0), ("down", 0.25, 0.75), ("constant", 0.9, 1.0)):
        objective = Objective([Term("kd", schedule=schedule)])
        objective.at(progress)
        torch.testing.assert_close(objective(s, None, t), share * whole)


def test_taps_are_found_at_equal_resolutions(student: Program, teacher: Program) -> None:
    assert automatic_taps(student, teacher) == (Tap("relu_1", "relu_2"), Tap("relu_2", "relu_3"))
    assert matching_taps(student, teacher, "relu_2", "relu_3") == (Tap("relu_2", "relu_3"),)
    with pytest.raises(UserError, match="do not pair up") as caught:
        matching_taps(student, teacher, "relu.*", "relu.*")
    assert "3 student nodes match" in caught.value.found
    with pytest.raises(UserError, match="cannot read the pattern"):
        matching_taps(student, teacher, "(", "relu")


def test_taps_of_networks_on_tokens() -> None:
    torch.manual_seed(0)
    ours, theirs = (
        capture(Tokens(width, depth), [torch.zeros(2, 5, dtype=torch.int64)]) for width, depth in ((8, 1), (12, 2))
    )
    taps = automatic_taps(ours, theirs)
    assert all(tap.tokens for tap in taps)
    objective = Objective([Term("hint", taps=taps)], student=ours, teacher=theirs)
    assert {tuple(p.shape) for p in objective.projections.values()} == {(12, 8)}
    samples = Dataset((torch.randint(0, 11, (16, 5)),), None)
    result = fit(
        ours, samples, objective=objective, options=TrainOptions(epochs=20, batch_size=16, lr=0.02), teacher=theirs
    )
    assert result.log[-1].loss < 0.8 * result.log[0].loss


@pytest.mark.parametrize("loss", ["hint", "attention", "relational", "similarity"])
def test_feature_losses_fall_in_training(loss: str, student: Program, teacher: Program, data: Dataset) -> None:
    taps = automatic_taps(student, teacher)
    objective = Objective([Term(loss, taps=taps)], student=student, teacher=teacher)
    options = TrainOptions(epochs=8, batch_size=16, optimizer="adamw", lr=0.01)
    result = fit(student, data.unlabelled(), objective=objective, options=options, teacher=teacher)
    assert result.log[-1].loss < 0.9 * result.log[0].loss
    assert len(objective.projections) == (2 if loss == "hint" else 0)


def test_projections_are_resumed_with_the_rest(student: Program, teacher: Program, data: Dataset, tmp_path) -> None:
    objective = Objective([Term("hint", taps=automatic_taps(student, teacher))], student=student, teacher=teacher)
    options = TrainOptions(epochs=3, batch_size=16)
    before = {name: p.detach().clone() for name, p in objective.projections.items()}

    def run(folder, stop: int | None = None):
        def stopper(progress) -> None:
            if stop is not None and progress.step >= stop:
                raise KeyboardInterrupt

        return fit(student, data, objective=objective, options=options, teacher=teacher, checkpoints=folder,
                   on_progress=stopper)  # fmt: skip

    whole = run(None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, 8)
    assert run(tmp_path).program.digest() == whole.program.digest()
    for name, parameter in objective.projections.items():
        torch.testing.assert_close(parameter, before[name], rtol=0, atol=0)


def test_different_resolutions_meet_at_the_smaller(student: Program, teacher: Program) -> None:
    objective = Objective([Term("attention", taps=(Tap("relu", "relu_3"),))], student=student, teacher=teacher)
    fine, coarse = torch.randn(2, 4, 8, 8), torch.randn(2, 12, 4, 4)
    found = objective((None, {"relu": fine}), None, (None, {"relu_3": coarse}))
    torch.testing.assert_close(found, losses.attention(nn.functional.avg_pool2d(fine, 2), coarse))


def test_outputs_of_different_shapes_are_not_compared(student: Program) -> None:
    other = capture(nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), [torch.randn(2, 1, 8, 8)])
    check_comparable(student, other, [Term("task")])
    with pytest.raises(UserError, match="cannot compare output 0") as caught:
        check_comparable(student, other, [Term("task"), Term("kd")])
    assert caught.value.found == "student 3, teacher 5"
    with pytest.raises(UserError, match="cannot compare output 1"):
        check_comparable(student, student, [Term("kd", output=1)])


def test_terms_from_plain_data(student: Program, teacher: Program) -> None:
    specs = [
        {"loss": "task", "weight": 0.1},
        {"loss": "kd", "weight": 0.9, "temperature": 2, "schedule": "up"},
        {"loss": "attention"},
        {"loss": "hint", "taps": {"student": "relu_2", "teacher": "relu_3"}},
        {"loss": "similarity", "taps": [["relu", "relu_1"]]},
    ]
    auto = automatic_taps(student, teacher)
    assert read_terms(specs, student, teacher) == (
        Term("task", 0.1),
        Term("kd", 0.9, {"temperature": 2.0}, schedule="up"),
        Term("attention", taps=auto),
        Term("hint", taps=(Tap("relu_2", "relu_3"),)),
        Term("similarity", taps=(Tap("relu", "relu_1"),)),
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s, t: Term("kdd"), "unknown distillation loss"),
        (lambda s, t: Term("hint"), "do not go together"),
        (lambda s, t: Term("kd", taps=(Tap("relu", "relu"),)), "do not go together"),
        (lambda s, t: Term("kd", settings={"temprature": 1.0}), "no setting temprature"),
        (lambda s, t: Term("kd", schedule="sideways"), "unknown schedule"),
        (lambda s, t: read_terms([{"weight": 1}], s, t), "without a loss"),
        (lambda s, t: read_terms([{"loss": "hint", "taps": "relu"}], s, t), "cannot read `taps`"),
        (lambda s, t: read_terms([{"loss": "kd", "temprature": 2}], s, t), "no setting temprature"),
        (lambda s, t: Objective([]), "without losses"),
        (lambda s, t: Objective([Term("task")]), "task's loss is unknown"),
        (lambda s, t: Objective([Term("hint", taps=(Tap("relu", "relu"),))]), "looks inside"),
        (lambda s, t: Objective([Term("hint", taps=(Tap("nothing", "relu"),))], student=s, teacher=t), "no features"),
        (lambda s, t: Objective([Term("hint", taps=(Tap("relu", "linear"),))], student=s, teacher=t), "cannot compare"),
        (lambda s, t: soft_targets(TASK.loss)(torch.zeros(2, 3), torch.zeros(2).long(), None), "without a teacher"),
        (lambda s, t: soft_targets(TASK.loss)(torch.zeros(2, 3), None, torch.zeros(2, 3)), "needs targets"),
    ],
)
def test_refusals(make, message: str, student: Program, teacher: Program) -> None:
    with pytest.raises(UserError, match=message):
        make(student, teacher)
