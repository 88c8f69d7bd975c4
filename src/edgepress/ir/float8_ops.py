"""Quantize and dequantize on the grid of float8 E4M3 (Micikevicius et al. 2022): 4 bits of exponent, 3 of mantissa.

Importing this module registers both operators with torch. They mean what ONNX's QuantizeLinear and DequantizeLinear do
with a FLOAT8E4M3FN zero point: divide by the scale, saturate at 448, round to the nearest float8 number.
"""

import torch

LARGEST = 448.0
FLOAT8 = torch.float8_e4m3fn
PER_TENSOR = -1


def to_float8(value: torch.Tensor) -> torch.Tensor:
    """Nearest float8 numbers, saturating; torch's own conversion turns what is too large into NaN."""
    return value.clamp(-LARGEST, LARGEST).to(FLOAT8)


@torch.library.custom_op("edgepress::quantize_float8", mutates_args=())
def quantize_float8(value: torch.Tensor, scale: torch.Tensor, axis: int) -> torch.Tensor:
    """`value` / `scale` as float8; `scale` has one element per index of `axis`, or one where that is `PER_TENSOR`."""
    return to_float8(value / _spread(scale, value, axis))


@torch.library.custom_op("edgepress::dequantize_float8", mutates_args=())
def dequantize_float8(value: torch.Tensor, scale: torch.Tensor, axis: int) -> torch.Tensor:
    """The inverse, in float32."""
    return value.to(torch.float32) * _spread(scale, value, axis)


@quantize_float8.register_fake
def _(value: torch.Tensor, scale: torch.Tensor, axis: int) -> torch.Tensor:
    return torch.empty_like(value, dtype=FLOAT8)


@dequantize_float8.register_fake
def _(value: torch.Tensor, scale: torch.Tensor, axis: int) -> torch.Tensor:
    return torch.empty_like(value, dtype=torch.float32)


def _spread(scale: torch.Tensor, like: torch.Tensor, axis: int) -> torch.Tensor:
    if axis == PER_TENSOR:
        return scale.reshape(())
    shape = [1] * like.dim()
    shape[axis] = -1
    return scale.reshape(shape)
