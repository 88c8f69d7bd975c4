import pytest
import torch
from torch import nn

from edgepress.ir import Program, capture
from edgepress.quantize.diagnose import NOISELESS_DB, diagnose, sqnr
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import prepare, quantize
from edgepress.quantize.repair import repairs
from edgepress.quantize.saturation import saturation
from edgepress.targets.capability import Capability, load_capability


def test_ratio_in_decibels() -> None:
    signal = torch.ones(100)
    assert sqnr(signal, signal) == NOISELESS_DB
    assert sqnr(signal, signal * 0.9) == pytest.approx(20.0, abs=1e-4)
    assert sqnr(torch.zeros(3), signal[:3]) == -NOISELESS_DB


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_noise_that_is_no_number_is_the_worst_there_is(broken: float) -> None:
    signal = torch.ones(10)
    noisy = signal.clone()
    noisy[3] = broken
    assert sqnr(signal, noisy) == -NOISELESS_DB
    assert sqnr(noisy, signal) == -NOISELESS_DB


def test_eight_bits_have_no_bad_layer(residual: Program, images: torch.Tensor, x86: Capability) -> None:
    result = quantize(residual, QuantOptions(), x86, [(images,)])
    found = diagnose(prepare(residual), result.program, [(images,)])
    assert [n.node for n in found.nodes if n.weight_db is not None] == ["conv2d", "conv2d_1", "conv2d_2", "linear"]
    assert found.first_bad == "" and found.output_db > 25
    assert "first bad node: none" in found.to_text()


def test_a_spoiled_layer_is_found(residual: Program, images: torch.Tensor, x86: Capability) -> None:
    weight = residual.state()["outer.weight"].detach().clone()
    weight[:, 0, 0, 0] = 40.0  # one large value per channel leaves no steps for the others
    spoiled = residual.with_state({"outer.weight": weight})
    result = quantize(spoiled, QuantOptions(weight_bits=3, edge_bits=8, rounding="nearest"), x86, [(images,)])
    found = diagnose(prepare(spoiled), result.program, [(images,)])
    assert found.worst(1)[0].layer in ("outer", "inner")
    assert found.worst(1)[0].cause == "weight"


def test_clipped_ranges_are_named(residual: Program, images: torch.Tensor, x86: Capability) -> None:
    quiet = quantize(residual, QuantOptions(), x86, [(images * 0.05,)])
    found = diagnose(prepare(residual), quiet.program, [(images,)])
    causes = {n.cause for n in found.nodes}
    assert "clipping" in causes
    assert found.first_bad


@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.GRU])
def test_layers_of_several_outputs_are_heard_at_the_first(kind: type[torch.nn.LSTM | torch.nn.GRU]) -> None:
    torch.manual_seed(0)
    sequences = torch.randn(16, 12, 6)

    class Reader(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells, self.head = kind(6, 8, batch_first=True), torch.nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.cells(x)[0][:, -1])

    program = capture(Reader(), [sequences[:2]])
    result = quantize(program, QuantOptions(), load_capability("mcu-c"), [(sequences,)])
    found = diagnose(result.reference, result.program, [(sequences,)])
    recurrent = next(n for n in found.nodes if n.layer == "cells" and n.op != "getitem")
    assert 10 < recurrent.sqnr_db < NOISELESS_DB


def test_repairs_are_measured_and_cheapest_first(residual: Program, images: torch.Tensor, x86: Capability) -> None:
    options = QuantOptions(weight_bits=3, rounding="nearest")
    found = repairs(residual, options, x86, [(images,)])
    assert found and [r.price for r in found] == sorted(r.price for r in found)
    assert all(r.gain_db >= 1.0 for r in found)
    rounding = next(r for r in found if "layer output" in r.what)
    gained = quantize(residual, rounding.options, x86, [(images,)])
    before = quantize(residual, options, x86, [(images,)])
    reference = residual(images)
    assert sqnr(reference, gained.program(images)) > sqnr(reference, before.program(images)) + 0.9


class Uneven(nn.Module):
    """Channels whose ranges differ a hundredfold, through a depthwise layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.depthwise = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3, groups=16)
        self.last = nn.Conv2d(16, 8, 1)
        with torch.no_grad():
            self.first.weight *= torch.logspace(-1.3, 0.7, 16).view(-1, 1, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.depthwise(torch.relu(self.first(x))))).mean((2, 3))


def test_repairs_that_need_each_other_are_found_together(images: torch.Tensor, x86: Capability) -> None:
    one_scale = x86.weight.model_copy(update={"granularity": "tensor"})
    target, program = x86.model_copy(update={"weight": one_scale}), capture(Uneven(), [torch.randn(2, 3, 8, 8)])
    options = QuantOptions(weight_bits=5, rounding="nearest")
    found = {repair.setting: repair for repair in repairs(program, options, target, [(images,)])}
    both = found["equalize: true, correct_biases: true"]
    assert both.options == QuantOptions(weight_bits=5, rounding="nearest", equalize=True, correct_biases=True)
    alone = [found[part].gain_db for part in ("equalize: true", "correct_biases: true") if part in found]
    assert both.gain_db >= max(alone, default=0.0) + 1 and both.price == 1
    before, after = (quantize(program, o, target, [(images,)]).program(images) for o in (options, both.options))
    assert sqnr(program(images), after) - sqnr(program(images), before) == pytest.approx(both.gain_db, abs=0.1)


def test_saturation_needs_large_neighbours(residual: Program, images: torch.Tensor, x86: Capability) -> None:
    full = quantize(residual, QuantOptions(), x86, [(images,)])
    assert saturation(full.program)
    reduced = quantize(residual, QuantOptions(), load_capability("onnxruntime-x86-avx2"), [(images,)])
    assert not saturation(reduced.program)
