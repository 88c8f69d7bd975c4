"""Equalization, SmoothQuant, AWQ and bias correction: the float network stays the same, the quantized one gains."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from edgepress.errors import UserError
from edgepress.ir import Program, capture
from edgepress.quantize.correct_biases import correct_biases
from edgepress.quantize.diagnose import sqnr
from edgepress.quantize.equalize import equalize
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import prepare, quantize
from edgepress.quantize.smooth import smooth
from edgepress.targets.capability import Capability


class Uneven(nn.Module):
    """Convolutions whose channels differ by orders of magnitude, as folded batch norms leave them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.third = nn.Conv2d(16, 8, 1)
        spread = torch.logspace(-1.5, 1.5, 16)[torch.randperm(16)]
        with torch.no_grad():
            for tensor in (self.first.weight, self.first.bias):
                tensor.mul_(spread.reshape(-1, *[1] * (tensor.dim() - 1)))
            self.second.weight.div_(spread.reshape(-1, 1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.third(torch.relu(self.second(torch.relu(self.first(x)))))


class Block(nn.Module):
    """A layer norm with a few loud channels before two dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(32), nn.Linear(32, 64), nn.Linear(64, 32)
        with torch.no_grad():
            self.norm.weight[[3, 17]] = 40.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(torch.relu(self.up(self.norm(x))))


@pytest.fixture(scope="module")
def uneven() -> Program:
    torch.manual_seed(0)
    return capture(Uneven(), [torch.randn(2, 3, 8, 8)])


@pytest.fixture(scope="module")
def block() -> Program:
    torch.manual_seed(0)
    return capture(Block(), [torch.randn(2, 5, 32)])


def tensors(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def per_tensor(capability: Capability) -> Capability:
    return capability.model_copy(update={"weight": capability.weight.model_copy(update={"granularity": "tensor"})})


def decibels(program: Program, options: QuantOptions, capability: Capability, x: torch.Tensor) -> float:
    quantized = quantize(program, options, capability, [(x,)])
    return sqnr(program(x), quantized.program(x))


def test_equalization_keeps_the_function_and_levels_the_ranges(uneven: Program) -> None:
    result, x = equalize(uneven), tensors(8, 3, 8, 8)
    assert result.changed and torch.allclose(result.program(x), uneven(x), atol=1e-5)
    reach = [p.state()["first.weight"].abs().amax((1, 2, 3)) for p in (uneven, result.program)]
    assert reach[0].max() / reach[0].min() > 100 > 20 > reach[1].max() / reach[1].min()


def test_equalization_repairs_one_scale_per_weight(uneven: Program, x86: Capability) -> None:
    x, table = tensors(32, 3, 8, 8), per_tensor(x86)
    before, after = (decibels(uneven, QuantOptions(equalize=on), table, x) for on in (False, True))
    assert after > before + 6


def test_nothing_to_equalize_is_told(mixed: Program) -> None:
    result = equalize(mixed)
    assert not result.changed and result.refusals


def test_smoothing_keeps_the_function_and_gains(block: Program, x86: Capability) -> None:
    x = tensors(16, 5, 32)
    result = smooth(block, [(x,)], 0.5)
    assert result.changed and torch.allclose(result.program(x), block(x), rtol=1e-4, atol=1e-4)
    before, after = (decibels(block, QuantOptions(smooth=s), x86, x) for s in (None, 0.5))
    assert after > before + 2


@pytest.mark.parametrize("block_size", [None, 16])
def test_awq_gains_over_rounding_to_nearest(block: Program, x86: Capability, block_size: int | None) -> None:
    x = tensors(16, 5, 32)
    plain = {"weight_bits": 3, "activation_bits": None, "rounding": "nearest", "weight_block": block_size}
    before, after = (decibels(block, QuantOptions(**plain, awq=on), x86, x) for on in (False, True))  # type: ignore[arg-type]
    assert after > before + 1


def test_corrected_biases_put_the_means_back(residual: Program, images: torch.Tensor, x86: Capability) -> None:
    plain = QuantOptions(weight_bits=4, rounding="nearest")
    outputs = {}
    for on in (False, True):
        options = QuantOptions(weight_bits=4, rounding="nearest", correct_biases=on)
        outputs[on] = quantize(residual, options, x86, [(images,)]).program(images)
    shift = {on: (outputs[on] - residual(images)).mean(0).abs().max() for on in outputs}
    assert plain.correct_biases is False and shift[True] < 0.5 * shift[False]


def test_shared_biases_are_left_alone(x86: Capability) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(torch.relu(self.layer(x)))

    program = prepare(capture(Twice(), [torch.randn(2, 4)]))
    result = quantize(program, QuantOptions(), x86, [(tensors(8, 4),)])
    corrected, _ = correct_biases(program, program, result.plan, [(tensors(8, 4),)])
    assert torch.equal(corrected.state()["layer.bias"], program.state()["layer.bias"])


def test_weights_alone_are_asked_for(block: Program) -> None:
    for settings in ({"awq": True}, {"weight_block": 16}):
        with pytest.raises(ValueError, match="weights alone"):
            QuantOptions(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"smooth": 0.5}, {"weight_bits": 4}, {"correct_biases": True}])
def test_no_data_is_an_error(residual: Program, x86: Capability, options: dict[str, object]) -> None:
    nothing: Iterator[tuple[torch.Tensor]] = iter(())
    with pytest.raises(UserError, match="no calibration data"):
        quantize(residual, QuantOptions(**options), x86, nothing)  # type: ignore[arg-type]
