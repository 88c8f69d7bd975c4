"""Fires; does not fire; graph boundary; shared weight; empty graph; `changed` honest; outputs equal."""

import pytest
import torch
from torch import nn

from edgepress.ir import Program, capture, to_text
from edgepress.passes.fold_batchnorm import fold_batchnorm


def awake(module: nn.Module) -> nn.Module:
    """Batch norms with statistics and scales that matter."""
    generator = torch.Generator().manual_seed(0)
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
                if tensor is not None:
                    tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return module


def program(*layers: nn.Module, shape: tuple[int, ...]) -> Program:
    torch.manual_seed(0)
    return capture(awake(nn.Sequential(*layers)), [torch.randn(2, *shape)])


LAYERS = {
    "conv": ((nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)), (3, 8, 8)),
    "no bias": ((nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)), (3, 8, 8)),
    "grouped": ((nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)), (4, 8, 8)),
    "depthwise": ((nn.Conv2d(4, 4, 3, groups=4, bias=False), nn.BatchNorm2d(4)), (4, 8, 8)),
    "same": ((nn.Conv2d(3, 6, 3, padding="same"), nn.BatchNorm2d(6)), (3, 8, 8)),
    "conv1d": ((nn.Conv1d(3, 6, 3), nn.BatchNorm1d(6)), (3, 8)),
    "conv3d": ((nn.Conv3d(3, 6, 3), nn.BatchNorm3d(6)), (3, 8, 8, 8)),
    "transposed": ((nn.ConvTranspose2d(4, 6, 3, bias=False), nn.BatchNorm2d(6)), (4, 8, 8)),
    "grouped transposed": ((nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)), (4, 8, 8)),
    "linear": ((nn.Linear(5, 6), nn.BatchNorm1d(6)), (5,)),
    "not affine": ((nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, affine=False)), (3, 8, 8)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_folds_and_gives_equal_outputs(name: str) -> None:
    layers, shape = LAYERS[name]
    before = program(*layers, nn.ReLU(), shape=shape)
    result = fold_batchnorm(before)
    assert result.changed
    assert not result.refusals
    assert "aten.batch_norm(" not in to_text(result.program)
    x = torch.randn(5, *shape)
    torch.testing.assert_close(result.program(x), before(x), rtol=1e-4, atol=1e-5)


def test_the_program_given_stays_as_it_is() -> None:
    before = program(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), shape=(3, 8, 8))
    digest = before.digest()
    fold_batchnorm(before)
    assert before.digest() == digest


def test_nothing_to_fold_changes_nothing() -> None:
    before = program(nn.Conv2d(3, 6, 3), nn.ReLU(), shape=(3, 8, 8))
    result = fold_batchnorm(before)
    assert (result.changed, result.refusals) == (False, ())
    assert result.program is before


def test_batch_norm_of_the_input_is_refused() -> None:
    result = fold_batchnorm(program(nn.BatchNorm2d(3), nn.Conv2d(3, 6, 3), shape=(3, 8, 8)))
    assert not result.changed
    assert "convolution or linear" in result.refusals[0].needed


class TwoReaders(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return self.norm(y) + y


class SharedWeight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.norm(self.conv(x)))


@pytest.mark.parametrize(("module", "reason"), [(TwoReaders, "2 readers"), (SharedWeight, "shared by 2 layers")])
def test_what_folding_would_break_is_refused(module: type[nn.Module], reason: str) -> None:
    result = fold_batchnorm(capture(awake(module()), [torch.randn(2, 3, 8, 8)]))
    assert not result.changed
    assert reason in result.refusals[0].found


def test_sequence_norm_after_linear_is_refused() -> None:
    """(batch, positions, channels): the batch norm normalises positions."""
    result = fold_batchnorm(program(nn.Linear(5, 6), nn.BatchNorm1d(4), shape=(4, 5)))
    assert not result.changed
    assert "positions" in result.refusals[0].found


def test_folded_and_refused_in_one_network() -> None:
    before = program(nn.BatchNorm2d(3), nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 2, 1), shape=(3, 8, 8))
    result = fold_batchnorm(before)
    assert result.changed
    assert len(result.refusals) == 1
    assert to_text(result.program).count("aten.batch_norm(") == 1
    assert result.program.history[-1] == "fold_batchnorm: 1 folded"
