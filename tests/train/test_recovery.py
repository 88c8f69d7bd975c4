"""Distillation recovers what damage took, from few samples and without labels."""

import dataclasses
from pathlib import Path

import pytest
import torch

from edgepress.data import Dataset, per_class
from edgepress.distill import soft_targets
from edgepress.ir import Program
from edgepress.train import TrainOptions, evaluate, fit
from edgepress.train.tasks import get

TASK = get("classification")


@pytest.fixture(scope="module")
def teacher(small: Program, train_data: Dataset) -> Program:
    options = TrainOptions(epochs=15, batch_size=32, lr=0.1)
    return fit(small, train_data, task=TASK, objective=TASK.objective(), options=options).program


@pytest.fixture(scope="module")
def damaged(teacher: Program) -> Program:
    noise = torch.randn(teacher.state()["conv.weight"].shape, generator=torch.Generator().manual_seed(0))
    return teacher.with_state({"conv.weight": teacher.state()["conv.weight"].detach() + 0.5 * noise})


def test_from_a_few_samples_of_each_class_without_labels(
    teacher: Program, damaged: Program, train_data: Dataset, validation_data: Dataset
) -> None:
    few = per_class(train_data, 10, seed=0).unlabelled()
    options = TrainOptions(epochs=40, batch_size=30, optimizer="adamw", lr=0.01, cache_teacher=True)
    result = fit(damaged, few, objective=soft_targets(None), options=options, teacher=teacher)
    scores = [evaluate(p, validation_data, TASK) for p in (teacher, damaged, result.program)]
    assert scores[1] < scores[0] - 0.15
    assert scores[2] > scores[1] + 0.1
    assert not result.notes


def test_a_remembered_teacher_teaches_the_same(
    teacher: Program, damaged: Program, train_data: Dataset, tmp_path: Path
) -> None:
    options = TrainOptions(epochs=3, batch_size=32, lr=0.05)

    def run(folder: Path | None = None, **changes: object) -> Program:
        chosen = dataclasses.replace(options, **changes)
        return fit(damaged, train_data, objective=soft_targets(TASK.loss), options=chosen, teacher=teacher,
                   checkpoints=folder).program  # fmt: skip

    asked, remembered, on_disk = run(), run(cache_teacher=True), run(tmp_path, cache_teacher=True)
    for name, tensor in asked.state().items():
        torch.testing.assert_close(remembered.state()[name], tensor, rtol=1e-3, atol=1e-4)
    assert remembered.digest() == on_disk.digest()
    assert (tmp_path / "teacher.safetensors").is_file()
    (tmp_path / "last.safetensors").unlink()
    assert run(tmp_path, cache_teacher=True).digest() == on_disk.digest()


def test_a_teacher_is_not_remembered_where_samples_change(
    teacher: Program, damaged: Program, train_data: Dataset
) -> None:
    options = TrainOptions(epochs=1, batch_size=64, lr=0.05, cache_teacher=True, augment=("flip",))
    result = fit(damaged, train_data, objective=soft_targets(TASK.loss), options=options, teacher=teacher)
    assert "augmentation" in result.notes[0]


def test_an_ensemble_teaches_its_mean(teacher: Program, damaged: Program, train_data: Dataset) -> None:
    seen = []

    def objective(outputs, targets, teacher_outputs):
        seen.append(teacher_outputs)
        return TASK.loss(outputs, targets)

    options = TrainOptions(epochs=1, batch_size=len(train_data), lr=0.05)
    fit(damaged, train_data, objective=objective, options=options, teacher=[teacher, damaged])
    from edgepress.train.randomness import epoch_order

    inputs = train_data.inputs[0][epoch_order(len(train_data), 0, 0)]
    torch.testing.assert_close(seen[0], (teacher(inputs) + damaged(inputs)) / 2)


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(damaged: Program, train_data: Dataset) -> None:
    options = TrainOptions(epochs=2, batch_size=64, lr=0.05)
    plain, compiled = (
        fit(damaged, train_data, objective=TASK.objective(), options=dataclasses.replace(options, compile=on)).log
        for on in (False, True)
    )
    # Dropout draws other numbers when compiled, so losses are only alike.
    assert compiled[-1].loss == pytest.approx(plain[-1].loss, rel=0.2)
