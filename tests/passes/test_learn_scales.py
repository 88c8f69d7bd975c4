import pytest
import torch
from onnxruntime import InferenceSession

from edgepress.errors import UserError
from edgepress.exporters.onnx import export_onnx
from edgepress.ir import Program, load, save, to_text
from edgepress.passes.learn_scales import fix_scales, has_offset, learn_scales, offset_name, plan_of
from edgepress.passes.strip_quantization import strip_quantization
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import prepare, quantize
from edgepress.targets.capability import Capability


@pytest.fixture(scope="module")
def quantized(residual: Program, images: torch.Tensor, x86: Capability) -> Program:
    return quantize(residual, QuantOptions(weight_bits=4), x86, [(images,)]).program


def test_the_learnable_form_computes_nearly_the_same(quantized: Program, images: torch.Tensor) -> None:
    learnable = learn_scales(quantized).program
    # Only the int32 rounding of biases differs, and ties.
    assert torch.allclose(learnable(images), quantized(images), atol=0.02)
    assert any(n.startswith("learned.") for n in learnable.parameter_names())


def test_gradients_reach_weights_biases_and_scales(quantized: Program, images: torch.Tensor) -> None:
    module = learn_scales(quantized).program.trainable()
    module(3 * images).square().mean().backward()  # values beyond the ranges: they move zero points
    dead = [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead


def test_fixing_what_was_not_trained_changes_nothing(quantized: Program, images: torch.Tensor) -> None:
    back = fix_scales(learn_scales(quantized).program).program
    assert plan_of(back) == plan_of(quantized)
    assert torch.equal(back(images), quantized(images))


def test_training_comes_back_in_plan_and_outputs(quantized: Program, images: torch.Tensor) -> None:
    learnable = learn_scales(quantized).program
    name = next(n for n in learnable.parameter_names() if n.startswith("learned.head"))
    trained = learnable.with_state({name: learnable.state()[name] * 1.5})
    back = fix_scales(trained).program
    before, after = (plan_of(p).weight("head.weight").scales for p in (quantized, back))  # type: ignore[union-attr]
    assert torch.allclose(torch.tensor(after), torch.tensor(before) * 1.5)
    bias = next(b for b in plan_of(back).biases if b.weight == "head.weight")
    assert bias.scales != next(b for b in plan_of(quantized).biases if b.weight == "head.weight").scales
    assert torch.allclose(back(images), trained(images), atol=0.05)


def test_zero_points_learn_where_values_lie_on_both_sides(quantized: Program, images: torch.Tensor) -> None:
    learnable, plan = learn_scales(quantized).program, plan_of(quantized)
    learned = {point.group for point in plan.activations if offset_name(point.group) in learnable.state()}
    assert learned == {p.group for p in plan.activations if 0 < p.zero_point < 255} and learned
    assert learned < set(plan.groups())  # those behind a ReLU begin at zero
    fixed = learn_scales(quantized, offsets=False).program
    assert not [name for name in fixed.parameter_names() if name.endswith("_offset")]
    assert torch.equal(fixed(images), learnable(images))


def test_a_learned_zero_point_ships_as_the_integer_it_was_trained_as(
    quantized: Program, images: torch.Tensor, tmp_path
) -> None:
    learnable = learn_scales(quantized).program
    moved = {
        name: learnable.state()[name] + (60.4 if name.endswith("_offset") else 0.0)
        for name in learnable.parameter_names()
        if name.startswith("learned.")
    }
    trained = learnable.with_state(moved)
    back = fix_scales(trained).program
    pairs = list(zip(plan_of(quantized).activations, plan_of(back).activations, strict=True))
    assert {after.zero_point - before.zero_point for before, after in pairs if has_offset(before)} == {60}
    assert all(before == after for before, after in pairs if not has_offset(before))
    assert not torch.allclose(trained(images), quantized(images), atol=0.01)
    assert torch.allclose(back(images), trained(images), atol=0.008)  # the int32 rounding of biases, and ties
    path = export_onnx(back, tmp_path / "model.onnx").path
    (exported,) = InferenceSession(path).run(None, {"image": images.numpy()})
    assert torch.allclose(torch.from_numpy(exported), back(images), atol=0.02)


def test_the_gradient_of_a_zero_point_is_that_of_clipped_values() -> None:
    value = torch.tensor([-1.0, 0.3, 5.0, 6.0])  # on a grid from -0.8 to 0.7
    zero = torch.tensor([8.0], requires_grad=True)
    rounded = torch.ops.edgepress.learned_quantize(value, torch.tensor([0.1]), zero, -1, 0, 15, 1.0)
    rounded.sum().backward()
    assert torch.allclose(rounded, torch.tensor([-0.8, 0.3, 0.7, 0.7]))
    assert zero.grad is not None and float(zero.grad) == pytest.approx(-0.3)  # three values are clipped


def test_the_learnable_form_saves(quantized: Program, tmp_path) -> None:
    learnable = learn_scales(quantized).program
    save(learnable, tmp_path)
    assert load(tmp_path).digest() == learnable.digest()


def test_stripping_gives_the_float_program_back(residual: Program, images: torch.Tensor, x86: Capability) -> None:
    prepared = prepare(residual)
    quantized = quantize(residual, QuantOptions(), x86, [(images,)]).program
    stripped = strip_quantization(quantized)
    assert stripped.changed and to_text(stripped.program) == to_text(prepared)
    assert torch.equal(stripped.program(images), prepared(images))
    assert not strip_quantization(stripped.program).changed


def test_programs_without_a_plan_are_refused(residual: Program, quantized: Program) -> None:
    with pytest.raises(UserError, match="not quantized"):
        learn_scales(residual)
    with pytest.raises(UserError, match="no learned scales"):
        fix_scales(quantized)
