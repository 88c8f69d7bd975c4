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
    if axis != PER_TENSOR:
        return aten._fake_quantize_learnable_per_channel_affine(value, scale, zero_point, axis, low, high, damping)
    # As torch's own kernel for one scale, to the bit, in a tenth of its time.
    first, last = _ends(zero_point, low, high)
    return torch.mul(value, 1 / scale).round_().clamp_(first, last).mul_(scale)


def _ends(zero_point: torch.Tensor, low: int, high: int) -> tuple[float, float]:
    """The first and last integer of the grid, counted from the zero point, which is rounded to one of them."""
    zero = float(zero_point.round().clamp(low, high))
    return low - zero, high - zero


@learned_quantize.register_fake
def _(value: torch.Tensor, *settings: Any) -> torch.Tensor:
    return torch.empty_like(value)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    value, scale, zero_point, *ctx.settings = inputs
    ctx.save_for_backward(value, scale, zero_point)


def _gradients(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
    axis, low, high, damping = ctx.settings
    if axis == PER_TENSOR:
        value, scale, zero_point = ctx.saved_tensors
        grads = _per_tensor_gradients(gradient, value, scale, zero_point, low, high, damping)
    else:
        tensors = (gradient.contiguous(), *ctx.saved_tensors)
        grads = aten._fake_quantize_learnable_per_channel_affine_backward(*tensors, axis, low, high, damping)
    return (*grads, None, None, None, None)


def _per_tensor_gradients(
    gradient: torch.Tensor,
    value: torch.Tensor,
    scale: torch.Tensor,
    zero_point: torch.Tensor,
    low: int,
    high: int,
    damping: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of value, scale and zero point; half the time of torch's kernel."""
    image = value.dim() == 4 and value.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if image else torch.contiguous_format
    incoming, value = gradient.contiguous(memory_format=layout), value.contiguous(memory_format=layout)
    first, last = _ends(zero_point, low, high)
    steps = value * (1 / scale)
    nearest = steps.round()
    inside = aten.hardtanh_backward(incoming, nearest, first - 0.5, last + 0.5)  # passes between the two ends
    kept = nearest.clamp_(first, last)
    # Per value, of the scale: kept - steps inside the grid, kept (one of its ends) outside.
    of_scale = _dot(incoming, kept) - _dot(inside, steps)
    of_zero_point = (inside.sum() - incoming.sum()) * scale
    return inside, (of_scale * damping).reshape(scale.shape), (of_zero_point * damping).reshape(scale.shape)


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Sum of the products of two tensors of the same layout in memory."""
    rows = (t.permute(0, 2, 3, 1) if t.dim() == 4 and not t.is_contiguous() else t for t in (a, b))
    return torch.dot(*(t.reshape(-1) for t in rows))


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
