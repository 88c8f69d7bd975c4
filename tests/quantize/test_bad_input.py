"""What calibration may meet: each case ends in a sound network or in a refusal that says what is wrong."""

import pytest
import torch
from torch import Tensor, nn

from edgepress.errors import UserError
from edgepress.ir import Program, capture
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.targets.capability import load_capability

X86 = load_capability("onnxruntime-x86")
OBSERVERS = ("minmax", "moving_average", "percentile", "mse", "entropy")


class Net(nn.Module):
    """Two convolutions; `dead` silences channels of the first."""

    def __init__(self, *, dead: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(8, 4, 3, padding=1)
        self.a.weight.data[:dead] = 0.0
        self.a.bias.data[:dead] = 0.0

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x))).mean((2, 3))


def program(**settings: int) -> Program:
    return capture(Net(**settings).eval(), [torch.randn(2, 3, 8, 8)])  # type: ignore[arg-type]


def noise(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm().clamp(min=1e-9))


@pytest.mark.parametrize("observer", OBSERVERS)
def test_constant_activations(observer: str) -> None:
    net, x = program(), torch.full((4, 3, 8, 8), 0.7)
    result = quantize(net, QuantOptions(observer=observer), X86, [(x,)])  # type: ignore[arg-type]
    assert noise(result.program(x), net(x)) < 0.05


@pytest.mark.parametrize("observer", OBSERVERS)
def test_activations_that_are_always_zero(observer: str) -> None:
    net, x = program(dead=8), torch.randn(4, 3, 8, 8)
    result = quantize(net, QuantOptions(observer=observer), X86, [(x,)])  # type: ignore[arg-type]
    assert noise(result.program(x), net(x)) < 0.05  # only the last bias is left
    assert all(p.scale for p in result.plan.activations)


@pytest.mark.parametrize("observer", OBSERVERS)
def test_a_single_sample(observer: str) -> None:
    net, x = program(), torch.randn(1, 3, 8, 8)
    result = quantize(net, QuantOptions(observer=observer), X86, [(x,)])  # type: ignore[arg-type]
    assert noise(result.program(x), net(x)) < 0.15


def test_channels_of_zeros_keep_their_bias() -> None:
    net, x = program(dead=3), torch.randn(4, 3, 8, 8)
    result = quantize(net, QuantOptions(), X86, [(x,)])
    assert noise(result.program(x), net(x)) < 0.05


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("observer", OBSERVERS)
def test_data_that_is_not_finite_is_refused_with_its_batch(bad: float, observer: str) -> None:
    good, spoilt = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    spoilt[1, 2, 3, 4] = bad
    with pytest.raises(UserError, match=r"calibration batch 2 makes .* infinite or NaN"):
        quantize(program(), QuantOptions(observer=observer), X86, [(good,), (spoilt,)])  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["a.weight", "b.bias"])
def test_weights_that_are_not_finite_are_refused_by_name(bad: float, where: str) -> None:
    model = Net().eval()
    dict(model.named_parameters())[where].data.view(-1)[0] = bad
    broken = capture(model, [torch.randn(2, 3, 8, 8)])
    with pytest.raises(UserError, match=where):
        quantize(broken, QuantOptions(), X86, [(torch.randn(2, 3, 8, 8),)])


def test_a_huge_outlier_is_named() -> None:
    net, x = program(), torch.randn(64, 3, 8, 8)
    spoilt = x.clone()
    spoilt[0, 0, 0, 0] = 1e4
    result = quantize(net, QuantOptions(), X86, [(spoilt,)])
    assert noise(result.program(x), net(x)) > 0.5  # what the warning is about
    named = next(r for r in result.refusals if "less than one step" in str(r))
    assert "1e+04" in str(named) and "percentile" in str(named)
    assert not any("less than one step" in str(r) for r in quantize(net, QuantOptions(), X86, [(x,)]).refusals)


def test_an_operator_without_integers_is_named() -> None:
    class Strange(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.erf(self.a(x)))

    net, x = capture(Strange(), [torch.randn(2, 3, 8, 8)]), torch.randn(4, 3, 8, 8)
    result = quantize(net, QuantOptions(), X86, [(x,)])
    refused = next(r for r in result.refusals if "erf" in str(r))
    assert "no integer kernel" in str(refused)
    assert noise(result.program(x), net(x)) < 0.05


def test_nothing_to_quantize_is_said_and_changes_nothing() -> None:
    class Curves(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.erf(x) + torch.sin(x)

    net, x = capture(Curves(), [torch.randn(2, 3)]), torch.randn(4, 3)
    result = quantize(net, QuantOptions(), X86, [(x,)])
    assert not result.plan.quantized and len(result.refusals) >= 2
    assert torch.equal(result.program(x), net(x))


def test_a_known_scale_reaches_what_shares_it() -> None:
    """The reshaped output of a sigmoid has the sigmoid's scale, which no calibration looks for."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Linear(256, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.sigmoid(self.a(x)).flatten(1))

    net, x = capture(Shared(), [torch.randn(2, 3, 8, 8)]), torch.randn(4, 3, 8, 8)
    result = quantize(net, QuantOptions(), X86, [(x,)])
    assert {p.scale for p in result.plan.activations if p.node in ("sigmoid", "flatten")} == {1 / 256}
    assert noise(result.program(x), net(x)) < 0.05
