"""The learned quantizer against torch's own kernel."""

import pytest
import torch

from edgepress.ir.quant_ops import PER_TENSOR

aten = torch.ops.aten
LAST = torch.channels_last


@pytest.mark.parametrize("zero", [0.0, 99.6, 255.0, 300.0])
@pytest.mark.parametrize(("shape", "layout", "incoming"), [
    ((8, 16), torch.contiguous_format, torch.contiguous_format),
    ((4, 6, 5, 7), torch.contiguous_format, torch.contiguous_format),
    ((4, 6, 5, 7), LAST, LAST),
    ((4, 6, 5, 7), LAST, torch.contiguous_format),
    ((4, 6, 5, 7), torch.contiguous_format, LAST),
    ((4, 6, 1, 1), LAST, LAST),
])  # fmt: skip
def test_one_scale_is_as_in_torch(
    shape: tuple[int, ...], layout: torch.memory_format, incoming: torch.memory_format, zero: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    value = (3 * torch.randn(shape, generator=generator)).contiguous(memory_format=layout).requires_grad_()
    gradient = torch.randn(shape, generator=generator).contiguous(memory_format=incoming)
    scale, point = torch.tensor([0.02], requires_grad=True), torch.tensor([zero], requires_grad=True)
    found = torch.ops.edgepress.learned_quantize(value, scale, point, PER_TENSOR, 0, 255, 0.3)
    found.backward(gradient)
    detached = value.detach(), scale.detach(), point.detach()
    assert torch.equal(found, aten._fake_quantize_learnable_per_tensor_affine(*detached, 0, 255, 0.3))
    goals = aten._fake_quantize_learnable_per_tensor_affine_backward(
        gradient.contiguous(), detached[0].contiguous(), *detached[1:], 0, 255, 0.3
    )
    assert value.grad is not None and torch.equal(value.grad, goals[0])
    for own, goal in zip((scale.grad, point.grad), goals[1:], strict=True):
        assert own is not None and torch.allclose(own, goal, rtol=1e-4, atol=1e-4)
    assert found.is_contiguous(memory_format=layout) and value.grad.is_contiguous(memory_format=layout)


def test_a_transposed_value_is_quantized_as_any_other() -> None:
    value = torch.randn(5, 9).T
    scale, point = torch.tensor([0.1], requires_grad=True), torch.tensor([0.0])
    found = torch.ops.edgepress.learned_quantize(value, scale, point, PER_TENSOR, -8, 7, 1.0)
    found.square().sum().backward()
    again = torch.ops.edgepress.learned_quantize(value.contiguous(), scale.detach(), point, PER_TENSOR, -8, 7, 1.0)
    assert torch.equal(found, again) and scale.grad is not None and scale.grad.shape == (1,)
