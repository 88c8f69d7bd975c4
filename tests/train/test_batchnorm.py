"""Weights that were changed after training: evaluation stays, and training starts where evaluation is."""

import torch

from edgepress.data import Dataset
from edgepress.ir import Program
from edgepress.train import TrainOptions, fit
from edgepress.train.batchnorm import settled
from edgepress.train.tasks import get

TASK = get("classification")


def rescaled(program: Program) -> Program:
    """A trained network whose convolution was scaled by 3; the batch norm makes up for it, but not in its statistics.

    weight (3 h / 3 - mean) / s + bias = (weight / 3) (3 h - mean) / s + bias - weight (1 - 1/3) mean / s
    """
    state = {name: t.detach() for name, t in program.state().items()}
    spread = (state["norm.running_var"] + 1e-5).sqrt()
    missing = state["norm.weight"] * (1 - 1 / 3) * state["norm.running_mean"] / spread
    return program.with_state(
        {
            "conv.weight": 3 * state["conv.weight"],
            "conv.bias": 3 * state["conv.bias"],
            "norm.weight": state["norm.weight"] / 3,
            "norm.bias": state["norm.bias"] - missing,
        }
    )


def loss(module: torch.nn.Module, data: Dataset) -> float:
    torch.manual_seed(0)
    with torch.no_grad():
        return float(TASK.loss(module(*data.inputs), data.targets))


def test_training_starts_where_evaluation_is(small: Program, train_data: Dataset) -> None:
    options = TrainOptions(epochs=15, batch_size=32, lr=0.1)
    trained = fit(small, train_data, objective=TASK.objective(), options=options).program
    changed = rescaled(trained)
    torch.testing.assert_close(changed(*train_data.inputs), trained(*train_data.inputs), rtol=1e-3, atol=1e-3)
    mended = settled(changed, train_data)
    torch.testing.assert_close(mended(*train_data.inputs), changed(*train_data.inputs), rtol=1e-3, atol=1e-3)
    assert loss(changed.trainable(), train_data) > loss(changed.module(), train_data) + 0.1
    assert abs(loss(mended.trainable(), train_data) - loss(mended.module(), train_data)) < 0.1


def test_a_network_that_was_never_trained_is_left_alone(small: Program, train_data: Dataset) -> None:
    assert settled(small, train_data) is small
