"""What `fit` promises: it learns, repeats itself to the byte, resumes to the byte, and says why it stops."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from edgepress.data import Dataset
from edgepress.distill import soft_targets
from edgepress.errors import UserError
from edgepress.ir import Program, capture
from edgepress.train import Progress, TrainOptions, evaluate, fit
from edgepress.train.tasks import get

TASK = get("classification")
OPTIONS = TrainOptions(epochs=3, batch_size=32, lr=0.1, seed=7)


class Interrupted(Exception):
    pass


def interrupt_at(step: int):
    def callback(progress: Progress) -> None:
        if progress.step >= step:
            raise Interrupted

    return callback


def test_it_learns(small: Program, train_data: Dataset, validation_data: Dataset) -> None:
    before = evaluate(small, validation_data, TASK)
    options = dataclasses.replace(OPTIONS, epochs=10)
    result = fit(small, train_data, validation=validation_data, task=TASK, objective=TASK.objective(), options=options)
    assert before < 0.6
    assert result.best_metric is not None
    assert result.best_metric > 0.9
    assert evaluate(result.program, validation_data, TASK) == pytest.approx(result.best_metric)
    assert [entry.epoch for entry in result.log] == list(range(1, 11))


def test_the_program_given_stays_as_it_was(small: Program, train_data: Dataset) -> None:
    digest = small.digest()
    result = fit(small, train_data, objective=TASK.objective(), options=OPTIONS)
    assert small.digest() == digest
    assert result.program.digest() != digest
    assert result.program.history[-1].startswith("trained 3 epochs")


def test_batch_norm_statistics_are_trained_too(small: Program, train_data: Dataset) -> None:
    result = fit(small, train_data, objective=TASK.objective(), options=OPTIONS)
    assert not torch.equal(result.program.state()["norm.running_mean"], small.state()["norm.running_mean"])


VARIANTS = {
    "plain": {},
    "adamw": {"optimizer": "adamw", "lr": 0.01},
    "ema": {"ema": 0.9},
    "augmented": {"augment": ("flip", "crop"), "mixup": 0.2, "cutmix": 1.0},
    "parts": {"accumulate": 4, "clip": 0.5},
    "bf16": {"amp": "bf16", "channels_last": True},
    "fp16": {"amp": "fp16", "clip": 0.5},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_a_resumed_run_ends_with_the_same_bytes(
    changes: dict, small: Program, train_data: Dataset, validation_data: Dataset, tmp_path: Path
) -> None:
    options = dataclasses.replace(OPTIONS, checkpoint_steps=2, **changes)

    def run(folder: Path | None, on_progress=None):
        return fit(small, train_data, validation=validation_data, task=TASK, objective=soft_targets(TASK.loss),
                   options=options, teacher=small, checkpoints=folder, on_progress=on_progress)  # fmt: skip

    whole, again = run(None), run(tmp_path / "whole")
    assert whole.program.digest() == again.program.digest()
    with pytest.raises(Interrupted):
        run(tmp_path / "torn", interrupt_at(10))
    resumed = run(tmp_path / "torn")
    assert 0 < resumed.resumed_at < 18
    assert resumed.program.digest() == whole.program.digest()
    assert [(e.loss, e.metric) for e in resumed.log] == [(e.loss, e.metric) for e in whole.log]
    assert run(tmp_path / "torn").program.digest() == whole.program.digest()


def test_a_last_batch_of_one_sample_does_not_spoil_batch_norm() -> None:
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    program = capture(layers, [torch.randn(2, 4)])
    data = Dataset((torch.randn(33, 4),), torch.arange(33) % 3)
    result = fit(program, data, objective=TASK.objective(), options=OPTIONS, task=TASK)
    assert result.log[-1].step == 3
    assert bool(torch.isfinite(result.program.state()["1.running_var"]).all())


def test_the_callers_random_state_is_left_alone(small: Program, train_data: Dataset) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    fit(small, train_data, objective=TASK.objective(), options=OPTIONS)
    assert torch.equal(torch.rand(4), expected)
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_checkpoint_of_another_job_is_refused(small: Program, train_data: Dataset, tmp_path: Path) -> None:
    fit(small, train_data, objective=TASK.objective(), options=OPTIONS, checkpoints=tmp_path)
    other = dataclasses.replace(OPTIONS, lr=0.2)
    with pytest.raises(UserError, match="another training"):
        fit(small, train_data, objective=TASK.objective(), options=other, checkpoints=tmp_path)


def test_a_log_line_per_epoch(small: Program, train_data: Dataset, tmp_path: Path) -> None:
    fit(small, train_data, objective=TASK.objective(), options=OPTIONS, checkpoints=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert all(line["samples_per_second"] > 0 for line in lines)


def test_divergence_names_the_step_and_keeps_the_best(
    small: Program, train_data: Dataset, validation_data: Dataset, tmp_path: Path
) -> None:
    calls = []

    def poisoned(outputs, targets, teacher_outputs):
        calls.append(1)
        loss = TASK.loss(outputs, targets)
        return loss * torch.nan if len(calls) == 9 else loss

    with pytest.raises(UserError, match=r"step 9 \(epoch 2\)") as caught:
        fit(small, train_data, validation=validation_data, task=TASK, objective=poisoned, options=OPTIONS,
            checkpoints=tmp_path)  # fmt: skip
    assert "lr: 0.01" in caught.value.fix
    assert "best.safetensors" in caught.value.fix
    assert (tmp_path / "best.safetensors").is_file()


def test_wrong_labels_are_named(small: Program, train_data: Dataset) -> None:
    wrong = dataclasses.replace(train_data, targets=train_data.targets + 1)
    with pytest.raises(UserError, match="out of range") as caught:
        fit(small, wrong, task=TASK, objective=TASK.objective(), options=OPTIONS)
    assert "1 to 3" in caught.value.found


def test_weights_that_are_not_finite_are_refused(small: Program, train_data: Dataset) -> None:
    broken = small.with_state({"head.bias": torch.full((3,), torch.nan)})
    with pytest.raises(UserError, match="not finite") as caught:
        fit(broken, train_data, objective=TASK.objective(), options=OPTIONS)
    assert "head.bias" in caught.value.found


def test_patience_ends_a_run_early(small: Program, train_data: Dataset, validation_data: Dataset) -> None:
    options = dataclasses.replace(OPTIONS, epochs=50, patience=2, lr=0.1)
    result = fit(small, train_data, validation=validation_data, task=TASK, objective=TASK.objective(), options=options)
    metrics = [entry.metric for entry in result.log]
    assert len(metrics) < 50
    assert metrics.index(max(metrics)) == len(metrics) - 3


def test_of_equally_good_epochs_the_last_is_kept(small: Program, train_data: Dataset) -> None:
    one = train_data.subset([0])
    options = dataclasses.replace(OPTIONS, epochs=20)
    result = fit(small, train_data, validation=one, task=TASK, objective=TASK.objective(), options=options)
    assert result.best_metric == 1.0
    assert [entry.metric for entry in result.log].count(1.0) > 1
    assert result.best_epoch == max(entry.epoch for entry in result.log if entry.metric == 1.0)


def test_a_constraint_holds_after_every_step(small: Program, train_data: Dataset) -> None:
    def prune_first(parameters) -> None:
        parameters["conv.weight"][0] = 0

    result = fit(small, train_data, objective=TASK.objective(), options=OPTIONS, constraint=prune_first)
    assert bool((result.program.state()["conv.weight"][0] == 0).all())


def test_a_penalty_shrinks_what_it_names(small: Program, train_data: Dataset) -> None:
    def sparsity(parameters):
        return 1.0 * parameters["norm.weight"].abs().sum()

    plain = fit(small, train_data, objective=TASK.objective(), options=OPTIONS)
    shrunk = fit(small, train_data, objective=TASK.objective(), options=OPTIONS, penalty=sparsity)
    size = {k: float(r.program.state()["norm.weight"].detach().abs().sum()) for k, r in (("p", plain), ("s", shrunk))}
    assert size["s"] < 0.5 * size["p"]
