import pytest
import torch
from torch import nn

from edgepress.errors import UserError
from edgepress.ir import Program, capture, to_text


def test_equal_programs_have_equal_digests(residual: Program) -> None:
    same = residual.with_state({})
    other = residual.with_state({"head.bias": torch.zeros(4)})
    assert same.digest() == residual.digest()
    assert other.digest() != residual.digest()


def test_batch_is_free(residual: Program) -> None:
    assert residual.dynamic_batch()
    for batch in (1, 2, 7):
        assert residual(torch.randn(batch, 1, 8, 8)).shape == (batch, 4)


def test_trainable_module_trains_its_own_copy(residual: Program) -> None:
    before = residual.digest()
    module = residual.trainable()
    mean = residual.state()["norm.running_mean"].clone()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module(torch.randn(16, 1, 8, 8)).square().mean().backward()
    optimizer.step()
    assert all(p.grad is not None for p in module.parameters())
    assert not torch.equal(dict(module.named_buffers())["norm.running_mean"], mean), "batch norm did not learn"
    assert residual.digest() == before


def test_training_output_comes_back(residual: Program) -> None:
    module = residual.trainable()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.01)
    trained = residual.with_state(dict(module.named_parameters()), note="trained")
    assert trained.history[-1] == "trained"
    assert not torch.equal(trained(torch.ones(1, 1, 8, 8)), residual(torch.ones(1, 1, 8, 8)))


def test_a_tensor_of_another_shape_is_refused(residual: Program) -> None:
    with pytest.raises(ValueError, match=r"head\.bias"):
        residual.with_state({"head.bias": torch.zeros(3)})


def test_text_is_stable_and_readable(residual: Program) -> None:
    text = to_text(residual)
    assert text == to_text(residual.with_state({}))
    assert "program(image) -> (output)" in text
    assert "f32[?, 12, 8, 8] = aten.conv2d(" in text


class Branches(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return x + 1
        return x


def test_uncapturable_model_names_the_offending_line() -> None:
    with pytest.raises(UserError) as caught:
        capture(Branches(), [torch.randn(2, 3)])
    assert "if x.sum() > 0:" in caught.value.what
    assert __file__ in caught.value.what
    assert caught.value.fix
