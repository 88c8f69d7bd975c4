"""The memory plan on networks small enough to add up by hand."""

import torch
from torch import nn

from edgepress.analysis.memory_plan import memory_plan
from edgepress.exporters.shipping import shipping_form
from edgepress.ir import capture
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.targets.capability import load_capability


class Chain(nn.Module):
    """4 -> 8 -> 2, or `times` as wide; float32."""

    def __init__(self, times: int = 1) -> None:
        super().__init__()
        self.wide = nn.Linear(4 * times, 8 * times, bias=False)
        self.narrow = nn.Linear(8 * times, 2 * times, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.narrow(self.wide(x))


class Skip(nn.Module):
    """The input is needed until the end."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.two(self.one(x))


def test_buffers_are_given_back_after_their_last_reader() -> None:
    plan = memory_plan(capture(Chain(), [torch.randn(2, 4)]))
    assert plan.weights == 4 * (4 * 8 + 8 * 2)
    assert plan.activations == 4 * (4 + 8), "input and hidden layer; the output comes when the input is gone"


def test_a_shortcut_holds_its_buffer() -> None:
    plan = memory_plan(capture(Skip(), [torch.randn(2, 4)]))
    assert plan.activations == 4 * (4 + 4 + 4), "input, hidden layer and output of the second layer"


def test_integers_take_a_quarter() -> None:
    torch.manual_seed(0)
    program = capture(Chain(16), [torch.randn(2, 64)])
    batches = [(torch.randn(64, 64),)]
    result = quantize(program, QuantOptions(), load_capability("onnxruntime-x86"), batches).program
    plan = memory_plan(shipping_form(result))
    assert 0.25 < plan.weights / memory_plan(program).weights < 0.3, "scales and offsets of channels come with it"
    assert plan.activations == 4 * 64 + 128, "the float input, the hidden layer as integers"
