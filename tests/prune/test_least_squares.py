"""Refits that hear what a rectifier lets through."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgepress.ir import capture
from edgepress.prune.heard import Range, range_behind
from edgepress.prune.least_squares import Row, fit


@pytest.fixture
def rows() -> list[Row]:
    """A layer of six inputs whose goal two of them, unseen, decide as well: no exact answer exists."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 1, 400, 8, generator=generator)
    goal = x @ torch.randn(8, 5, generator=generator) - 0.5
    return [(a[..., :6], z, torch.zeros_like(z)) for a, z in zip(x, goal, strict=True)]


def errors(rows: list[Row], delta: Tensor, shift: Tensor) -> Tensor:
    """Mean squared error behind a rectifier."""
    given = [F.relu(z) - F.relu(now + x @ delta.mT.float() + shift[:, None].float()) for x, z, now in rows]
    return torch.stack(given).square().mean()


def test_without_a_rectifier_it_is_ordinary_least_squares(rows: list[Row]) -> None:
    delta, shift = fit(rows, None, with_shift=True)
    x = torch.cat([F.pad(x[0], (0, 1), value=1.0) for x, _, _ in rows])
    expected = torch.linalg.lstsq(x, torch.cat([z[0] for _, z, _ in rows])).solution
    torch.testing.assert_close(torch.cat([delta[0], shift.mT], 1).float(), expected.mT, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("with_shift", [True, False])
def test_the_error_behind_a_rectifier_falls(rows: list[Row], with_shift: bool) -> None:
    plain = errors(rows, *fit(rows, None, with_shift))
    assert errors(rows, *fit(rows, Range(0.0, float("inf")), with_shift)) < plain


def test_what_a_rectifier_swallows_is_no_error() -> None:
    x = torch.linspace(-1, 1, 50)[None, :, None]
    goal = torch.where(x > 0, x, -1.0)  # far from any line, but only below zero
    rows = [(x, goal, torch.zeros_like(goal))] * 2
    plain = errors(rows, *fit(rows, None, with_shift=True))
    assert errors(rows, *fit(rows, Range(0.0, float("inf")), with_shift=True)) < 0.5 * plain


def test_constant_inputs_change_nothing_but_the_shift() -> None:
    x, goal = torch.full((1, 100, 4), 1000.0), torch.full((1, 100, 2), 3.0)
    delta, shift = fit([(x, goal, torch.zeros_like(goal))], None, with_shift=True)
    torch.testing.assert_close((x @ delta.mT.float() + shift.float()), goal)


class Heads(nn.Module):
    """Each layer is followed by another kind of reader."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(6))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        a, b, c, d, e, f = (layer(x) for layer in self.layers)
        return F.relu(a), F.relu6(b), F.hardtanh(c, -2.0, 3.0), d.clamp(max=5.0), F.relu(e) + e, F.gelu(f)


def test_what_is_read_on_is_known_from_all_readers() -> None:
    program = capture(Heads(), [torch.randn(2, 4)])
    linears = [n for n in program.nodes if n.target == torch.ops.aten.linear.default]
    inf = float("inf")
    expected = [Range(0.0, inf), Range(0.0, 6.0), Range(-2.0, 3.0), Range(-inf, 5.0), None, None]
    assert [range_behind(node) for node in linears] == expected
