import pytest
import torch
from torch import nn

from edgepress.analysis.costs import node_costs, total_macs
from edgepress.ir import Program, capture
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.targets.capability import load_capability

CASES = {
    # name: (module, input shape without batch, MACs of one example by hand)
    "conv": (nn.Conv2d(3, 8, 3, padding=1), (3, 10, 10), 8 * 10 * 10 * 3 * 9),
    "strided": (nn.Conv2d(3, 8, 3, stride=2, padding=1), (3, 10, 10), 8 * 5 * 5 * 3 * 9),
    "depthwise": (nn.Conv2d(6, 6, 3, padding=1, groups=6), (6, 4, 4), 6 * 4 * 4 * 9),
    "transposed": (nn.ConvTranspose2d(4, 2, 2, stride=2), (4, 3, 3), 3 * 3 * 4 * 2 * 4),
    "one dimension": (nn.Conv1d(2, 5, 3), (2, 10), 5 * 8 * 2 * 3),
    "linear": (nn.Linear(7, 5), (7,), 35),
    "linear on a sequence": (nn.Linear(7, 5), (4, 7), 4 * 35),
    "gru": (nn.Sequential(nn.GRU(3, 5, batch_first=True)), (6, 3), 6 * 3 * (5 * 3 + 5 * 5)),
}


class First(nn.Module):
    """The first result of a recurrent layer."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result = self.inner(x)
        return result[0] if isinstance(result, tuple) else result


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("batch", [1, 3])
def test_macs_of_one_example(name: str, batch: int) -> None:
    module, shape, expected = CASES[name]
    program = capture(First(module), [torch.randn(batch, *shape)], dynamic_batch=batch > 1)
    assert total_macs(program) // (1 if batch > 1 else batch) == expected


def test_attention_counts_both_products() -> None:
    class Attention(nn.Module):
        def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(q, k, v)

    q, k, v = torch.randn(2, 4, 6, 8), torch.randn(2, 4, 10, 8), torch.randn(2, 4, 10, 16)
    assert total_macs(capture(Attention(), [q, k, v])) == 4 * 6 * 10 * (8 + 16)


def test_shared_weights_count_once() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(self.layer(x))

    program = capture(Shared(), [torch.randn(2, 4)])
    assert sum(c.params for c in node_costs(program)) == program.parameter_count() == 20
    assert total_macs(program) == 32


def test_activation_bytes_are_per_example() -> None:
    costs = node_costs(capture(nn.Conv2d(1, 4, 1), [torch.randn(5, 1, 6, 6)]))
    assert [c.activation_bytes for c in costs if c.macs] == [4 * 6 * 6 * 4]


def test_quantized_layers_keep_their_names_and_parameters() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))
    program = capture(module, [torch.randn(2, 3, 6, 6)], dynamic_batch=True)
    batches = [(torch.randn(4, 3, 6, 6),)]
    quantized = quantize(program, QuantOptions(), load_capability("onnxruntime-x86"), batches).program

    def by_layer(of: Program) -> dict[str, tuple[int, int]]:
        return {c.layer: (c.params, c.macs) for c in node_costs(of) if c.params or c.macs}

    assert by_layer(quantized) == by_layer(program)
    assert set(by_layer(program)) == {"0", "3"}
