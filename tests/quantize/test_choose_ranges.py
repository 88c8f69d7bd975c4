"""Ranges chosen by what they do to the outputs."""

import pytest
import torch
from torch import nn

from edgepress.errors import UserError
from edgepress.ir import Program, capture
from edgepress.quantize.diagnose import sqnr
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import QuantizeResult, quantize
from edgepress.targets.capability import Capability

RARE = 200.0


class Head(nn.Module):
    """Two linear layers; how much the first input counts is up to the test."""

    def __init__(self, counts: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.outer = nn.Linear(16, 16), nn.Linear(16, 4)
        with torch.no_grad():
            self.inner.weight[:, 0] = counts
            self.inner.bias.fill_(1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.outer(torch.relu(self.inner(x)))


def network(counts: float) -> Program:
    return capture(Head(counts), [torch.randn(2, 16)], input_names=["x"])


@pytest.fixture(scope="module")
def samples() -> torch.Tensor:
    """Ordinary values, and a single one that is far larger, at the first place of an early sample."""
    x = torch.randn(4096, 16, generator=torch.Generator().manual_seed(1))
    x[5, 0] = RARE
    return x


def quantized(program: Program, observer: str, samples: torch.Tensor, target: Capability) -> QuantizeResult:
    options = QuantOptions(observer=observer)  # type: ignore[arg-type]
    return quantize(program, options, target, [(batch,) for batch in samples.split(64)])


def test_outliers_that_nobody_reads_are_cut(samples: torch.Tensor, x86: Capability) -> None:
    program = network(0.0)
    plain, chosen = (quantized(program, observer, samples, x86) for observer in ("minmax", "auto"))
    before, after = (sqnr(program(samples), result.program(samples)) for result in (plain, chosen))
    assert after > before + 6
    rule = chosen.plan.ranges.split(":")[0]
    assert rule in ("percentile", "mse") and "dB less noise" in chosen.plan.ranges
    other = quantized(program, rule, samples, x86)
    assert chosen.plan.activations == other.plan.activations and chosen.plan.weights == other.plan.weights
    assert chosen.plan.ranges in chosen.plan.to_text() and chosen.facts["ranges"] == chosen.plan.ranges


def test_rare_values_that_are_the_answer_stay(samples: torch.Tensor, x86: Capability) -> None:
    program = network(1.0)
    plain, chosen, cut = (quantized(program, rule, samples, x86) for rule in ("minmax", "auto", "percentile"))
    assert chosen.plan.activations == plain.plan.activations != cut.plan.activations
    assert chosen.plan.ranges.startswith("minmax: ")
    loud = samples[samples[:, 0] == RARE]
    assert sqnr(program(loud), cut.program(loud)) < sqnr(program(loud), chosen.program(loud)) - 6


def test_one_sample_and_no_data(x86: Capability) -> None:
    one = quantized(network(0.0), "auto", torch.randn(1, 16), x86)
    assert one.plan.ranges.startswith("minmax: ") and "1 sample" in one.plan.ranges
    with pytest.raises(UserError, match="no calibration data"):
        quantize(network(0.0), QuantOptions(observer="auto"), x86, [])


def test_several_outputs_are_all_asked(x86: Capability, samples: torch.Tensor) -> None:
    """What helps one output must not take another's answer away."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blind, self.seeing = Head(0.0), Head(1.0)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.blind(x), self.seeing(x)

    result = quantized(capture(Both(), [torch.randn(2, 16)]), "auto", samples, x86)
    assert result.plan.ranges.startswith("minmax: ")
