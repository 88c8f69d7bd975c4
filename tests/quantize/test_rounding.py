import pytest
import torch
from torch import nn

from edgepress.ir import Program, capture
from edgepress.ir.quant_plan import Grid
from edgepress.quantize import gptq
from edgepress.quantize.calibrate import calibrate
from edgepress.quantize.diagnose import sqnr
from edgepress.quantize.moments import as_matrices, from_matrices, moments
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.place import place
from edgepress.quantize.post_training import prepare, quantize
from edgepress.quantize.qparams import weight_scales
from edgepress.quantize.reconstruct import Tuning, reconstruct
from edgepress.quantize.round_layers import round_layers
from edgepress.targets.capability import Capability

S3 = Grid(dtype="int8", low=-3, high=3, symmetric=True)


def correlated(columns: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(columns, columns // 2, generator=generator, dtype=torch.float64)
    return (mix @ mix.T + 0.01 * torch.eye(columns))[None]


def test_rounding_by_output_beats_rounding_to_nearest() -> None:
    weight = torch.randn(1, 8, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    second = correlated(20)
    scales = weight.abs().amax(2) / 3
    nearest = torch.clamp(torch.round(weight / scales[:, :, None]), -3, 3)
    rounded = gptq.round_columns(weight, gptq.column_order(second), scales, S3)
    assert set(rounded.unique().tolist()) <= set(range(-3, 4))
    before, after = (gptq.output_error(weight - q * scales[:, :, None], second).sum() for q in (nearest, rounded))
    assert after < 0.5 * before


def test_independent_inputs_leave_rounding_to_nearest() -> None:
    weight = torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scales = weight.abs().amax(2) / 3
    order = gptq.column_order(torch.eye(6, dtype=torch.float64)[None])
    assert torch.equal(gptq.round_columns(weight, order, scales, S3), torch.round(weight / scales[:, :, None]))


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(1, 4, 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scales, order = weight.abs().amax(2) / 3, gptq.column_order(correlated(30))
    whole = gptq.round_columns(weight, order, scales, S3)
    monkeypatch.setattr(gptq, "BLOCK", 7)
    assert torch.equal(gptq.round_columns(weight, order, scales, S3), whole)


@pytest.mark.parametrize("block", [7, 64])
def test_descent_ends_where_no_single_change_helps(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(gptq, "BLOCK", block)
    monkeypatch.setattr(gptq, "SWEEPS", 100)
    weight = torch.randn(1, 8, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    second, scales = correlated(20), weight.abs().amax(2) / 3
    hessian = gptq.damped(second)

    def error_of(integers: torch.Tensor) -> torch.Tensor:
        return gptq.output_error(weight - integers * scales[:, :, None], hessian)

    start = torch.clamp(torch.round(weight / scales[:, :, None]), -3, 3)
    better = gptq.descended(weight, second, start, scales, S3)
    assert (error_of(better) <= error_of(start) + 1e-9).all()
    assert error_of(better).sum() < 0.5 * error_of(start).sum()
    assert set(better.unique().tolist()) <= set(range(-3, 4))
    for column in range(20):
        for change in (-1, 1):
            other = better.clone()
            other[:, :, column] = (other[:, :, column] + change).clamp(-3, 3)
            assert (error_of(better) <= error_of(other) + 1e-9).all()


def test_compensation_is_the_least_squares_solution() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 4000, generator=generator, dtype=torch.float64)
    y = x + 0.3 * torch.randn(5, 4000, generator=generator, dtype=torch.float64) + 0.2 * x.roll(1, 0)
    weight = torch.randn(1, 3, 5, generator=generator, dtype=torch.float64)
    found = gptq.compensated(weight, (y @ y.T)[None] / 4000, (x @ y.T)[None] / 4000)
    best = torch.linalg.lstsq(y.T, (weight[0] @ x).T).solution.T
    assert torch.allclose(found[0], best, atol=0.05)
    assert not torch.allclose(weight[0], best, atol=0.1)


def test_fitted_scales_are_optimal() -> None:
    weight = torch.randn(1, 4, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    second, scales = correlated(10), weight.abs().amax(2) / 3
    integers = torch.round(weight / scales[:, :, None])
    fitted = gptq.fitted_scales(weight, second, integers, scales)
    for factor in (0.97, 1.03):
        errors = [gptq.output_error(weight - integers * s[:, :, None], second) for s in (fitted, fitted * factor)]
        assert (errors[0] <= errors[1] + 1e-12).all()


LAYERS = [
    nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False),
    nn.Conv2d(4, 8, 3, padding="same", groups=2, bias=False),
    nn.Conv2d(4, 4, 3, dilation=2, groups=4, bias=False),
    nn.Conv1d(4, 6, 5, padding=2, bias=False),
    nn.Linear(9, 5, bias=False),
]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_moments_predict_the_output_energy(layer: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgepress.quantize.moments.PATCHES", 10**9)
    shape = (4, 9) if isinstance(layer, nn.Conv1d) else (4, 9, 9)
    program = capture(layer, [torch.randn(2, *shape)])
    node = program.nodes[-1]
    x, weight = torch.randn(70, *shape), layer.weight.detach()
    seen = moments(node, x, x, weight)
    predicted = gptq.output_error(as_matrices(node, weight.double()), seen.second)
    output = program(x)
    axes = (0, 2) if isinstance(layer, nn.Conv1d) else (0, 1, 2) if isinstance(layer, nn.Linear) else (0, 2, 3)
    assert torch.allclose(predicted.reshape(-1), output.double().square().mean(axes), rtol=1e-4)
    assert torch.equal(from_matrices(node, as_matrices(node, weight), weight), weight)


def error(program: Program, other: Program, images: torch.Tensor) -> float:
    reference = program(images)
    return float((other(images) - reference).norm() / reference.norm())


@pytest.mark.parametrize("bits", [4, 3, 2])
def test_low_bits_gain_from_rounding_by_output(
    residual: Program, images: torch.Tensor, x86: Capability, bits: int
) -> None:
    fresh = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(7))
    errors = {}
    for rounding in ("nearest", "output"):
        options = QuantOptions(weight_bits=bits, rounding=rounding)  # type: ignore[arg-type]
        errors[rounding] = error(residual, quantize(residual, options, x86, [(images,)]).program, fresh)
    assert errors["output"] < 0.75 * errors["nearest"]


def test_rounded_weights_lie_on_their_grids(residual: Program, images: torch.Tensor, x86: Capability) -> None:
    prepared = prepare(residual)
    plan = calibrate(prepared, place(prepared, x86, QuantOptions(weight_bits=4)), [(images,)])
    rounded = round_layers(prepared, plan, [(images,)])
    for point in rounded.plan.weights:
        weight = rounded.program.state()[point.tensor]
        steps = weight / torch.tensor(point.scales).reshape(-1, *[1] * (weight.dim() - 1))
        assert (steps - steps.round()).abs().max() < 1e-3 and steps.abs().max() < 7.01
    assert all(gain > 0.9 for gain in rounded.improvement.values())


def test_weights_only_leave_activations_alone(residual: Program, images: torch.Tensor, x86: Capability) -> None:
    options = QuantOptions(weight_bits=4, activation_bits=None)
    result = quantize(residual, options, x86, [(images,)])
    assert not result.plan.activations and len(result.plan.weights) == 4
    assert error(residual, result.program, images) < 0.2


@pytest.mark.parametrize("rate", [1e-4, 1.0])
def test_reconstruction_comes_closer_or_is_not_kept(
    residual: Program, images: torch.Tensor, x86: Capability, rate: float
) -> None:
    prepared = prepare(residual)
    start = quantize(residual, QuantOptions(weight_bits=2, rounding="nearest"), x86, [(images,)]).program
    tuned = reconstruct(start, prepared, [(images,)], Tuning(steps=40, rate=rate, scale_rate=rate))
    if rate == 1.0:  # steps that lead nowhere
        assert tuned is start
    else:
        assert error(residual, tuned, images) < 0.9 * error(residual, start, images)


def test_a_layer_of_zeros_survives(residual: Program, images: torch.Tensor, x86: Capability) -> None:
    empty = residual.with_state({"inner.weight": torch.zeros(12, 8, 3, 3)})
    result = quantize(empty, QuantOptions(weight_bits=4), x86, [(images,)])
    assert torch.isfinite(result.program(images)).all()
    assert weight_scales(torch.zeros(3, 4), 0, S3).tolist() == [1.0] * 3


def test_inputs_that_never_change_survive(x86: Capability) -> None:
    """Channels of a depthwise layer that see nothing but the bias before them."""
    torch.manual_seed(0)
    first, depthwise = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3, groups=16)
    with torch.no_grad():
        first.weight[:8] *= 1e-7
        first.bias.uniform_(0.5, 1.5)
    net = nn.Sequential(first, nn.ReLU(), depthwise, nn.ReLU(), nn.Conv2d(16, 4, 1))
    program, x = capture(net, [torch.randn(2, 3, 8, 8)]), torch.randn(64, 3, 8, 8)
    result = quantize(program, QuantOptions(rounding="output"), x86, [(x,)])
    assert sqnr(program(x), result.program(x)) > 25
