"""Optimizers against their equations, and the pace of single parameters."""

import pytest
import torch

from edgepress.data import Dataset
from edgepress.ir import Program
from edgepress.train import TrainOptions, fit
from edgepress.train.optimizer import load_state_tensors, make_optimizer, set_learning_rate, state_tensors
from edgepress.train.tasks import get


def parameters() -> dict[str, torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.nn.Parameter(torch.randn(*shape, generator=generator))
            for name, shape in (("weight", (3, 4)), ("bias", (3,)), ("scale", (1,)))}  # fmt: skip


def test_lion_is_algorithm_2() -> None:
    named = {"weight": parameters()["weight"]}
    optimizer = make_optimizer(named, TrainOptions(optimizer="lion", lr=0.1, weight_decay=0.5), {})
    expected, momentum = named["weight"].detach().clone(), torch.zeros(3, 4)
    for step in range(4):
        gradient = torch.randn(3, 4, generator=torch.Generator().manual_seed(step))
        named["weight"].grad = gradient.clone()
        optimizer.step()
        direction = torch.sign(0.9 * momentum + 0.1 * gradient)
        expected = expected - 0.1 * (direction + 0.5 * expected)
        momentum = 0.99 * momentum + 0.01 * gradient
        torch.testing.assert_close(named["weight"].detach(), expected)


@pytest.mark.parametrize("kind", ["sgd", "adamw", "lion"])
def test_state_comes_back(kind: str) -> None:
    options = TrainOptions(optimizer=kind, lr=0.1)
    results = []
    for interrupted in (False, True):
        named = parameters()
        optimizer = make_optimizer(named, options, {"scale": 0.5})
        for step in range(4):
            if interrupted and step == 2:
                fresh = make_optimizer(named, options, {"scale": 0.5})
                load_state_tensors(fresh, {k: v.clone() for k, v in state_tensors(optimizer).items()})
                optimizer = fresh
            for number, parameter in enumerate(named.values()):
                parameter.grad = torch.full_like(parameter, float(step - number))
            optimizer.step()
        results.append({name: p.detach().clone() for name, p in named.items()})
    for name in results[0]:
        assert torch.equal(results[0][name], results[1][name])


@pytest.mark.parametrize("kind", ["sgd", "adamw", "lion"])
def test_a_pace_scales_the_step_and_zero_stops_it(kind: str) -> None:
    moved = {}
    for pace in (1.0, 0.5, 0.0):
        named = parameters()
        before = named["scale"].detach().clone()
        optimizer = make_optimizer(named, TrainOptions(optimizer=kind, lr=0.1, momentum=0.0), {"scale": pace})
        set_learning_rate(optimizer, 0.01)
        named["scale"].grad = torch.ones(1)
        optimizer.step()
        moved[pace] = float(named["scale"].detach() - before)
    assert moved[0.0] == 0 and moved[0.5] == pytest.approx(moved[1.0] / 2, rel=1e-4)
    assert abs(moved[1.0]) == pytest.approx(0.01, rel=1e-4)


def test_lion_learns(small: Program, train_data: Dataset) -> None:
    task = get("classification")
    options = TrainOptions(epochs=8, batch_size=32, optimizer="lion", lr=0.02)
    log = fit(small, train_data, objective=task.objective(), options=options, task=task).log
    assert log[-1].loss < 0.8 * log[0].loss
