"""Operators of quantized programs: the standard `quantized_decomposed` ones, one with learnable scales, and one
that measures each input.

Importing this module registers them with torch; programs that use them cannot be loaded before.
"""

from typing import Any

import torch
import torch.ao.quantization.fx._decomposed

PER_TENSOR = -1
aten = torch.ops.aten


@torch.library.custom_op("edgepress::learned_quantize", mutates_args=())
def learned_quantize(
    value: torch.Tensor,
    scale: torch.Tensor,
    zero_point: torch.Tensor,
    axis: int,
    low: int,
    high: int,
    damping: float,
) -> torch.Tensor:
    """`value` rounded to the grid (integer - zero_point) * scale with integers low..high.

    Args:
        scale, zero_point: float, one per index of `axis`, or one element where `axis` is `PER_TENSOR`. Zero points are
            rounded to integers low..high here.
        damping: factor of the gradients of both (LSQ, Esser et al. 2020, section 2.2).

    The gradient reaches `value` where it is not clipped, `scale` as in LSQ eq. 3, `zero_point` where values are clipped
    (LSQ+, Bhalgat et al. 2020, eq. 6).
    """
    if axis == PER_TENSOR:
        fake = aten._fake_quantize_learnable_per_tensor_affine(value, scale, zero_point, low, high, damping)
    else:
        fake = aten._fake_quantize_learnable_per_channel_affine(value, scale, zero_point, axis, low, high, damping)
    return fake


@learned_quantize.register_fake
def _(value: torch.Tensor, *settings: Any) -> torch.Tensor:
    return torch.empty_like(value)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    value, scale, zero_point, *ctx.settings = inputs
    ctx.save_for_backward(value, scale, zero_point)


def _gradients(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
    axis, low, high, damping = ctx.settings
    tensors = (gradient.contiguous(), *ctx.saved_tensors)
    if axis == PER_TENSOR:
        grads = aten._fake_quantize_learnable_per_tensor_affine_backward(*tensors, low, high, damping)
    else:
        grads = aten._fake_quantize_learnable_per_channel_affine_backward(*tensors, axis, low, high, damping)
    return (*grads, None, None, None, None)


learned_quantize.register_autograd(_gradients, setup_context=_remember)
for kind in ("cpu", "cuda"):  # the kernels know float32 alone, also inside mixed precision
    learned_quantize.register_autocast(kind, torch.float32)


@torch.library.custom_op("edgepress::dynamic_quantize", mutates_args=())
def dynamic_quantize(value: torch.Tensor) -> torch.Tensor:
    """`value` rounded to 256 steps between its own extremes (0 included), as ONNX's DynamicQuantizeLinear rounds it.

    The gradient passes as if nothing were rounded (Bengio et al. 2013, straight-through estimator).
    """
    low, high = value.min().clamp(max=0.0), value.max().clamp(min=0.0)
    scale = (high - low) / 255
    scale = torch.where(scale > 0, scale, 1.0)  # an input of zeros alone
    zero = torch.round(torch.clamp(-low / scale, 0, 255))
    return (torch.clamp(torch.round(value / scale) + zero, 0, 255) - zero) * scale


@dynamic_quantize.register_fake
def _(value: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(value)


dynamic_quantize.register_autograd(lambda ctx, gradient: gradient)
for kind in ("cpu", "cuda"):
    dynamic_quantize.register_autocast(kind, torch.float32)
