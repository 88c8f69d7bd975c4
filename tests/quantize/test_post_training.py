from collections.abc import Iterator

import pytest
import torch
from torch import nn

from edgepress.errors import UserError
from edgepress.ir import Program, capture, load, save
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import prepare, quantize
from edgepress.targets.capability import Capability, capability_names, load_capability


def batches(images: torch.Tensor, size: int = 16) -> Iterator[tuple[torch.Tensor]]:
    return ((images[i : i + size],) for i in range(0, len(images), size))


def relative_error(program: Program, other: Program, images: torch.Tensor) -> float:
    reference = program(images)
    return float((other(images) - reference).norm() / reference.norm())


INTEGER_TABLES = [n for n in capability_names() if load_capability(n).weight.dtype == "int8"]


@pytest.mark.parametrize("name", INTEGER_TABLES)
def test_eight_bits_keep_the_outputs(residual: Program, images: torch.Tensor, name: str) -> None:
    result = quantize(residual, QuantOptions(), load_capability(name), batches(images))
    assert relative_error(residual, result.program, images) < 0.05
    assert not result.refusals
    assert result.facts["weights_quantized"] == 4


@pytest.mark.parametrize("observer", ["minmax", "moving_average", "percentile", "mse", "entropy"])
def test_every_observer_works(residual: Program, images: torch.Tensor, x86: Capability, observer: str) -> None:
    options = QuantOptions(observer=observer)  # type: ignore[arg-type]
    result = quantize(residual, options, x86, batches(images))
    assert relative_error(residual, result.program, images) < 0.1


def test_fewer_bits_err_more(residual: Program, images: torch.Tensor, x86: Capability) -> None:
    errors = [
        relative_error(residual, quantize(residual, QuantOptions(weight_bits=b), x86, batches(images)).program, images)
        for b in (8, 4, 2)
    ]
    assert errors == sorted(errors)


def test_the_result_saves_and_trains_further(
    residual: Program, images: torch.Tensor, x86: Capability, tmp_path
) -> None:
    result = quantize(residual, QuantOptions(), x86, batches(images))
    save(result.program, tmp_path)
    assert load(tmp_path).digest() == result.program.digest()
    assert "head.weight" in result.program.parameter_names()


def test_a_single_sample_is_enough_for_a_result(residual: Program, images: torch.Tensor, x86: Capability) -> None:
    result = quantize(residual, QuantOptions(), x86, batches(images[:1]))
    assert relative_error(residual, result.program, images[:1]) < 0.1


def test_no_calibration_data_is_refused(residual: Program, x86: Capability) -> None:
    with pytest.raises(UserError, match="no calibration data"):
        quantize(residual, QuantOptions(), x86, [])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_data_is_refused_by_batch_and_node(
    residual: Program, images: torch.Tensor, x86: Capability, bad: float
) -> None:
    spoiled = images.clone()
    spoiled[20, 0, 0, 0] = bad
    with pytest.raises(UserError, match="batch 2 makes image"):
        quantize(residual, QuantOptions(), x86, batches(spoiled))


def test_bad_weights_are_refused_by_name(residual: Program, images: torch.Tensor, x86: Capability) -> None:
    weight = residual.state()["inner.weight"].detach().clone()
    weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(UserError, match=r"inner\.weight is not finite"):
        quantize(residual.with_state({"inner.weight": weight}), QuantOptions(), x86, batches(images))


def test_dead_channels_and_outliers_do_no_harm(residual: Program, images: torch.Tensor, x86: Capability) -> None:
    weight = residual.state()["inner.weight"].detach().clone()
    weight[3] = 0.0
    weight[4, 0, 0, 0] = 50.0
    strange = residual.with_state({"inner.weight": weight})
    result = quantize(strange, QuantOptions(), x86, batches(images))
    assert relative_error(strange, result.program, images) < 0.1


def test_a_constant_input_is_quantized(residual: Program, x86: Capability) -> None:
    constant = torch.full((4, 3, 8, 8), 0.7)
    result = quantize(residual, QuantOptions(), x86, [(constant,)])
    assert relative_error(residual, result.program, constant) < 0.05


def test_a_large_bias_beside_tiny_weights_stays_in_int32(
    residual: Program, images: torch.Tensor, x86: Capability
) -> None:
    state = residual.state()
    tiny = {"inner.weight": state["inner.weight"] * 1e-12, "inner.bias": torch.full((12,), 5.0)}
    strange = residual.with_state(tiny)
    result = quantize(strange, QuantOptions(), x86, batches(images))
    assert relative_error(strange, result.program, images) < 0.1


@pytest.mark.parametrize("bits", [1, 9, 0, -3])
def test_impossible_widths_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match="2 to 8"):
        QuantOptions(weight_bits=bits)


class Unrolled(nn.Module):
    """A recurrence whose first step reads zeros: one layer, inputs of different ranges, a bias read at every step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.step, self.head = nn.Linear(4, 4), nn.Linear(4, 2)
        self.register_buffer("nothing", torch.zeros(1, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = torch.relu(self.step(self.nothing.expand(x.shape[0], 4)))
        second = torch.relu(self.step(x + first))
        third = torch.relu(self.step(20 * second))
        return self.head(third)


def test_steps_of_one_layer_have_biases_on_their_own_grids(x86: Capability) -> None:
    program = capture(Unrolled(), [torch.randn(2, 4)])
    batches = [(torch.randn(8, 4, generator=torch.Generator().manual_seed(seed)),) for seed in range(4)]
    result = quantize(program, QuantOptions(), x86, batches)
    scales = {p.node: p.scale for p in result.plan.activations}
    prepared = {n.name: n for n in prepare(program).nodes}
    weight = next(w for w in result.plan.weights if w.tensor == "step.weight")
    steps = [b for b in result.plan.biases if b.tensor == "step.bias"]
    assert len(steps) == 2
    assert weight.scales is not None
    for bias in steps:
        source = prepared[bias.node].args[0]
        assert bias.scales == pytest.approx([s * scales[source.name] for s in weight.scales])
    reasons = {n.node: n.found for n in result.plan.float_nodes}
    assert "it reads what is the same for every sample" in reasons.values()
    x = batches[0][0]
    error = (result.program(x) - program(x)).abs().max() / program(x).abs().max()
    assert error < 0.05
