"""fold_batchnorm, drop_identity, spatial_means: fires, does not fire, says why, keeps the numbers."""

import pytest
import torch
from torch import nn

from edgepress.ir import Program, capture, to_text
from edgepress.passes.drop_identity import drop_identity
from edgepress.passes.fold_batchnorm import fold_batchnorm
from edgepress.passes.spatial_means import spatial_means


def test_folding_keeps_the_outputs(residual: Program, images: torch.Tensor) -> None:
    folded = fold_batchnorm(residual)
    assert folded.changed and "batch_norm" not in to_text(folded.program)
    assert torch.allclose(folded.program(images), residual(images), atol=1e-5)
    assert "stem.bias" in folded.program.parameter_names()


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return self.norm(y) + y


class First(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x)


@pytest.mark.parametrize(("net", "reason"), [(Shared, "2 readers"), (First, "reads x")])
def test_norms_that_cannot_be_folded_say_why(net: type[nn.Module], reason: str) -> None:
    program = capture(net(), [torch.randn(2, 3, 4, 4)])
    result = fold_batchnorm(program)
    assert not result.changed and result.program is program
    assert reason in result.refusals[0].found


class Idle(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.dropout(x[:, :, :], 0.5, False)[:, 1:].float()
        return y.transpose(1, 2).contiguous().view(-1, 9) * 2.0


def test_what_changes_nothing_is_dropped() -> None:
    program = capture(Idle(), [torch.randn(2, 4, 3)])
    result = drop_identity(program)
    text = to_text(result.program)
    assert result.changed and "dropout" not in text and "aten.to" not in text
    assert "aten.contiguous" in text, "the view needs its strides"
    assert text.count("aten.slice") == 1, "the slice that cuts stays"
    x = torch.randn(3, 4, 3)
    assert torch.equal(result.program(x), program(x))
    assert not drop_identity(result.program).changed


@pytest.mark.parametrize("keep", [False, True])
def test_spatial_means_become_pooling(keep: bool) -> None:
    class Mean(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((-1, -2), keepdim=keep)

    program = capture(Mean(), [torch.randn(2, 3, 4, 4)])
    result = spatial_means(program)
    x = torch.randn(2, 3, 4, 4)
    assert result.changed and "adaptive_avg_pool2d" in to_text(result.program)
    assert torch.allclose(result.program(x), program(x), atol=1e-6)


def test_other_means_stay() -> None:
    class Mean(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(1)

    assert not spatial_means(capture(Mean(), [torch.randn(2, 3, 4, 4)])).changed
