"""What calibration looks at, and what it holds on to."""

import re
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from edgepress.ir import Program, capture
from edgepress.quantize.calibrate import observe
from edgepress.quantize.observers import OBSERVERS, in_memory_order
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.place import place
from edgepress.quantize.post_training import prepare
from edgepress.quantize.watch import Watched
from edgepress.targets.capability import Capability

MARK = Path("/proc/self/clear_refs")


class Viewed(nn.Module):
    """Convolutions with a view behind them, which fits one memory layout only."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16 * 64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.b(torch.relu(self.a(x)))
        return self.head(y.view(y.shape[0], 16 * 64))


class Strided(Viewed):
    """Reads memory as it lies."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.b(torch.relu(self.a(x)))
        return self.head(torch.as_strided(y, (2, 16 * 64), (16 * 64, 1)))


@pytest.mark.parametrize("network", [Viewed, Strided])
def test_values_are_those_of_the_program_whatever_the_layout(network: type[nn.Module]) -> None:
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    program = capture(network(), [x], dynamic_batch=network is Viewed)
    seen: list[torch.Tensor] = []
    name = next(n.name for n in program.nodes if "relu" in n.name)
    outputs = Watched(program, {name: seen.append}).outputs((x,))
    torch.testing.assert_close(outputs[0], program(x), atol=1e-5, rtol=1e-5)
    expected = torch.relu(nn.functional.conv2d(x, program.state()["a.weight"], program.state()["a.bias"], padding=1))
    torch.testing.assert_close(seen[0], expected.detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_memory_order_is_a_permutation(layout: torch.memory_format) -> None:
    values = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5).contiguous(memory_format=layout)
    flat = in_memory_order(values)
    assert flat.data_ptr() == values.data_ptr() and flat.sort().values.tolist() == list(range(120))


@pytest.mark.parametrize("name", OBSERVERS)
def test_no_batch_is_held_on_to(residual: Program, x86: Capability, name: str) -> None:
    passed: list[weakref.ref[torch.Tensor]] = []

    def batches() -> Iterator[tuple[torch.Tensor]]:
        for seed in range(5):
            assert sum(r() is not None for r in passed) <= 1, "an earlier batch is still alive"
            fresh = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
            passed.append(weakref.ref(fresh))
            yield (fresh,)
            del fresh

    prepared = prepare(residual)
    observe(prepared, place(prepared, x86, QuantOptions()), batches(), name)


@pytest.mark.skipif(not MARK.exists(), reason="the high-water mark of memory is Linux's")
@pytest.mark.parametrize("name", ["minmax", "mse", "entropy"])
def test_memory_does_not_grow_with_the_samples(x86: Capability, name: str) -> None:
    """Keeping what the convolutions compute would take 12 MB more per batch."""
    prepared = prepare(capture(Viewed(), [torch.randn(2, 3, 8, 8)]))
    plan = place(prepared, x86, QuantOptions())

    def peak(count: int) -> int:
        batches = ((torch.randn(1536, 3, 8, 8),) for _ in range(count))
        MARK.write_text("5")
        before = resident("VmRSS")
        observe(prepared, plan, batches, name)
        return resident("VmHWM") - before

    peak(2)  # kernels and buffers that are made once
    few, many = peak(4), peak(24)
    assert many < few + 60e6


def resident(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024
