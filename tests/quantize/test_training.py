"""The trainable form of a quantized program: paces, what the target prescribes, and the way back."""

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import nn

from edgepress.data import Dataset
from edgepress.distill import Objective, Term
from edgepress.errors import UserError
from edgepress.ir import Program, capture
from edgepress.passes.learn_scales import has_offset, offset_name, plan_of, scale_name
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.quantize.training import finished, is_quantized, trainable
from edgepress.targets.capability import Capability, load_capability
from edgepress.train import TrainOptions, fit
from edgepress.train.tasks import get


class Gated(nn.Module):
    """A sigmoid, whose output scale kernels prescribe."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.outer(torch.sigmoid(self.inner(x)))


def test_paces_are_the_sizes_of_the_scales(residual: Program, images: torch.Tensor, x86: Capability) -> None:
    quantized = quantize(residual, QuantOptions(weight_bits=4), x86, [(images,)]).program
    form = trainable(quantized, x86, relative=True)
    state, plan = form.program.state(), plan_of(quantized)
    assert is_quantized(quantized) and not is_quantized(residual)
    scales = {scale_name(o) for o in (*plan.groups(), *(w.tensor for w in plan.weights))}
    offsets = {offset_name(p.group) for p in plan.activations if has_offset(p)}
    assert form.paces.keys() == form.limits.keys() == scales | offsets
    for name in scales:
        assert form.paces[name] == pytest.approx(float(state[name].detach().mean()))
    assert {form.paces[name] for name in offsets} == {255}
    gentle = trainable(quantized, x86, relative=False).paces
    assert all(gentle[scale_name(w.tensor)] == form.paces[scale_name(w.tensor)] for w in plan.weights)
    assert all(gentle[scale_name(g)] == pytest.approx(form.paces[scale_name(g)] ** 2) for g in plan.groups())
    assert plan_of(finished(form.program)) == plan


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lion"])
def test_scales_survive_rates_that_are_far_too_high(
    residual: Program, images: torch.Tensor, x86: Capability, optimizer: str
) -> None:
    quantized = quantize(residual, QuantOptions(weight_bits=4), x86, [(images,)]).program
    form = trainable(quantized, x86, relative=optimizer != "sgd")
    task = get("classification")
    labels = torch.randint(0, 4, (64,), generator=torch.Generator().manual_seed(2))

    def trained(constraint: Callable[[Mapping[str, torch.Tensor]], None] | None) -> Program:
        options = TrainOptions(epochs=4, batch_size=16, lr=0.5, optimizer=optimizer, schedule="constant", warmup=0)
        objective = Objective([Term("task")], task.loss)
        paces = dict.fromkeys(form.paces, 1.0)  # LSQ's own
        result = fit(form.program, Dataset((images,), labels), objective=objective, options=options, task=task,
                     paces=paces, constraint=constraint)  # fmt: skip
        return result.program

    lost, kept = trained(None).state(), trained(form.keep)
    scales = [name for name in form.limits if name.endswith("_scale")]
    assert any((lost[name] <= 0).any() for name in scales)
    for name, (low, high) in form.limits.items():
        assert ((kept.state()[name] >= low) & (kept.state()[name] <= high)).all(), name
    plan = plan_of(finished(kept))
    assert all(scale > 0 for weight in plan.weights for scale in weight.scales)


def test_prescribed_scales_do_not_move() -> None:
    capability = next(
        c for c in map(load_capability, ("mcu-c", "onnxruntime-arm64", "onnxruntime-x86", "openvino-cpu"))
        if any(rule.fixed_output for rule in c.rules)
    )  # fmt: skip
    torch.manual_seed(0)
    program = capture(Gated(), [torch.randn(2, 6)])
    quantized = quantize(program, QuantOptions(), capability, [(torch.randn(32, 6),)]).program
    paces = trainable(quantized, capability, relative=True).paces
    still = [name for name, pace in paces.items() if pace == 0]
    assert still == [scale_name("sigmoid")] and len(paces) > 2


def test_powers_of_two_stay_what_they_are(residual: Program, images: torch.Tensor, x86: Capability) -> None:
    form = x86.activation.model_copy(update={"power_of_two": True})
    stepped = x86.model_copy(update={"activation": form})
    quantized = quantize(residual, QuantOptions(), stepped, [(images,)]).program
    paces, plan = trainable(quantized, stepped, relative=True).paces, plan_of(quantized)
    assert all(paces[scale_name(group)] == 0 for group in plan.groups())
    assert all(paces[scale_name(w.tensor)] > 0 for w in plan.weights)


def test_a_float_program_is_refused(residual: Program, x86: Capability) -> None:
    with pytest.raises(UserError, match="not quantized"):
        trainable(residual, x86, relative=True)


def test_mixed_precision_keeps_the_quantizers_in_float32(
    residual: Program, images: torch.Tensor, x86: Capability
) -> None:
    quantized = quantize(residual, QuantOptions(), x86, [(images,)]).program
    module = trainable(quantized, x86, relative=True).program.trainable()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = module(images)
    outputs.float().square().mean().backward()
    assert torch.allclose(outputs.float(), quantized(images), atol=0.1)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in module.parameters())
