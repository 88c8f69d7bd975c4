"""Quantized networks: quantize/dequantize pairs, integer operators and the QONNX dialect.

Q and DQ become `quantized_decomposed` operators where torch has them, so that a quantized file arrives as a
fake-quantized network. Integer operators compute the same numbers in floating point.
"""

from typing import Any

import numpy as np
import torch
import torch.ao.quantization.fx._decomposed
from torch import Tensor

from edgepress.importers.onnx.entry import Operator, Operators
from edgepress.importers.onnx.ops import conv as convolutions
from edgepress.importers.onnx.ops import index
from edgepress.importers.onnx.ops.casts import FLOAT4, FLOAT8_MAX, SUB_BYTE, round_float4, to_float8
from edgepress.importers.onnx.values import Numbers, Unsupported, torch_dtype
from edgepress.ir import quant_ops  # noqa: F401  (registers edgepress::dynamic_quantize)

RANGES = {2: (0, 255), 3: (-128, 127), 4: (0, 65535), 5: (-32768, 32767), 6: (-(2**31), 2**31 - 1), **SUB_BYTE}
DECOMPOSED = (torch.uint8, torch.int8, torch.int16, torch.int32)
ONNX_TYPES = {
    torch.uint8: 2,
    torch.int8: 3,
    torch.uint16: 4,
    torch.int16: 5,
    torch.int32: 6,
    torch.float8_e4m3fn: 17,
    torch.float8_e5m2: 19,
    torch.float8_e4m3fnuz: 18,
    torch.float8_e5m2fnuz: 20,
}


def per_axis(parameter: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    """Scale or zero point shaped to broadcast with x: per tensor, per axis or per block along an axis."""
    if parameter.numel() == 1 and parameter.dim() <= 1:
        return parameter.reshape(())
    if block:
        return parameter.repeat_interleave(block, dim=axis).narrow(axis, 0, x.shape[axis])
    shape = [1] * x.dim()
    shape[axis] = -1
    return parameter.reshape(shape)


def quantize(
    x: Tensor,
    scale: Tensor | Numbers,
    zero: Tensor | Numbers | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    saturate: int = 1,
    precision: int = 0,
    zero_type: int = 0,
) -> Tensor:
    """round(x / scale) + zero, saturated to the type of zero."""
    kind = output_dtype or zero_type or _type_of(zero)
    if kind in (2, 3, 5, 6) and _is_single(scale) and x.dtype == torch.float32 and not isinstance(zero, Tensor):
        return _quantize_per_tensor(x, scale, zero, kind)
    factor, offset = torch.as_tensor(scale), torch.zeros(()) if zero is None else torch.as_tensor(zero)
    scaled = x.float() / per_axis(factor, x, axis, block_size).float()
    if kind in FLOAT8_MAX:
        return to_float8(scaled, kind, saturate=bool(saturate))
    if kind == FLOAT4:
        return round_float4(scaled)
    low, high = RANGES[kind]
    whole = torch.round(scaled) + per_axis(offset, x, axis, block_size).float()
    return whole.clamp(low, high).to(torch.int64).to(torch_dtype(kind))


def _type_of(zero: Any) -> int:
    """uint8 unless there is a zero point of another type."""
    return 2 if zero is None else ONNX_TYPES.get(torch.as_tensor(zero).dtype, 2)


def _is_single(scale: Any) -> bool:
    return not isinstance(scale, Tensor) and scale.size == 1 and scale.ndim <= 1


def _quantize_per_tensor(x: Tensor, scale: Any, zero: Any, kind: int) -> Tensor:
    low, high = RANGES[kind]
    offset = 0 if zero is None else int(np.asarray(zero).reshape(-1)[0])
    return torch.ops.quantized_decomposed.quantize_per_tensor(
        x, float(scale.reshape(-1)[0]), offset, low, high, torch_dtype(kind)
    )


def dequantize(
    x: Tensor,
    scale: Tensor | Numbers,
    zero: Tensor | Numbers | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
) -> Tensor:
    """(x - zero) scale."""
    if _is_single(scale) and x.dtype in DECOMPOSED and (zero is None or not isinstance(zero, Tensor)):
        low, high = torch.iinfo(x.dtype).min, torch.iinfo(x.dtype).max
        offset = 0 if zero is None else int(np.asarray(zero).reshape(-1)[0])
        step = float(scale.reshape(-1)[0])
        y = torch.ops.quantized_decomposed.dequantize_per_tensor(x, step, offset, low, high, x.dtype)
        return y if output_dtype in (0, 1) else y.to(torch_dtype(output_dtype))
    factor = torch.as_tensor(scale)
    shifted = x.float() if zero is None else x.float() - per_axis(torch.as_tensor(zero).float(), x, axis, block_size)
    target = torch_dtype(output_dtype) if output_dtype else factor.dtype
    return (shifted * per_axis(factor, x, axis, block_size).float()).to(target)


def quantized_weight(w: Tensor, scale: Tensor, zero: Tensor, *, axis: int, zero_type: int) -> Tensor:
    """A float weight on the integer grid it came from: quantize, then dequantize."""
    low, high = RANGES[zero_type]
    dtype = torch_dtype(zero_type)
    qd = torch.ops.quantized_decomposed
    if scale.numel() == 1:
        single = (scale.reshape(()), zero.reshape(()), low, high, dtype)
        return qd.dequantize_per_tensor.tensor(qd.quantize_per_tensor.tensor(w, *single), *single)
    facts = (scale, zero, axis, low, high, dtype)
    return qd.dequantize_per_channel(qd.quantize_per_channel(w, *facts), *facts)


def dynamic_quantize(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """To uint8 over the range of the data, 0 included: (y, scale, zero)."""
    low, high = x.min().clamp(max=0.0), x.max().clamp(min=0.0)
    scale = (high - low) / 255
    zero = torch.round(torch.clamp(-low / scale, 0, 255)).to(torch.uint8)
    y = torch.clamp(torch.round(x / scale) + zero.float(), 0, 255).to(torch.uint8)
    return y, scale, zero


def dynamic_grid(x: Tensor) -> Tensor:
    """DynamicQuantizeLinear and back."""
    quantized: Tensor = torch.ops.edgepress.dynamic_quantize(x)
    return quantized


def quantized_linear(
    x: Tensor, w: Tensor, bias: Tensor | None, scale: Tensor, zero: Tensor, *, axis: int, zero_type: int
) -> Tensor:
    """A linear layer with a float weight (outputs, inputs) on its integer grid."""
    return torch.nn.functional.linear(x, quantized_weight(w, scale, zero, axis=axis, zero_type=zero_type), bias)


def quantized_rows(table: Tensor, rows: Tensor, scale: Tensor, zero: Tensor, *, axis: int, zero_type: int) -> Tensor:
    """Gather from a float table on its integer grid."""
    return index.gather(quantized_weight(table, scale, zero, axis=0, zero_type=zero_type), rows, axis=axis)


def _requantize(y: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    info = torch.iinfo(zero.dtype)
    whole = torch.round(y / scale.double()) + zero.double()
    return whole.clamp(info.min, info.max).to(zero.dtype)


def _shifted(x: Tensor, zero: Tensor | None, axis: int | None = None) -> Tensor:
    """x - zero in float64, which holds every sum of integer products exactly."""
    if zero is None:
        return x.double()
    if zero.numel() > 1 and axis is not None:
        zero = zero.reshape([-1 if i == axis % x.dim() else 1 for i in range(x.dim())]) if zero.dim() == 1 else zero
    return x.double() - zero.double()


def conv_integer(
    x: Tensor, w: Tensor, x_zero: Tensor | None = None, w_zero: Tensor | None = None, **attributes: Any
) -> Tensor:
    """Convolution of integers, in int32."""
    return convolutions.conv(_shifted(x, x_zero), _shifted(w, w_zero, 0), None, **attributes).to(torch.int32)


def matmul_integer(a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None) -> Tensor:
    """Matrix product of integers, in int32; zero points per row of a and per column of b."""
    return (_shifted(a, a_zero, -2) @ _shifted(b, b_zero, -1)).to(torch.int32)


def q_linear_conv(
    x: Tensor, x_scale: Tensor, x_zero: Tensor, w: Tensor, w_scale: Tensor, w_zero: Tensor,
    y_scale: Tensor, y_zero: Tensor, bias: Tensor | None = None, **attributes: Any,
) -> Tensor:  # fmt: skip
    """Convolution of quantized tensors; the bias has scale x_scale w_scale."""
    sums = convolutions.conv(
        _shifted(x, x_zero), _shifted(w, w_zero, 0), None if bias is None else bias.double(), **attributes
    )
    factor = w_scale.double().reshape(1, -1, *[1] * (x.dim() - 2)) if w_scale.numel() > 1 else w_scale.double()
    return _requantize(sums * x_scale.double() * factor, y_scale, y_zero)


def q_linear_matmul(
    a: Tensor, a_scale: Tensor, a_zero: Tensor, b: Tensor, b_scale: Tensor, b_zero: Tensor,
    y_scale: Tensor, y_zero: Tensor,
) -> Tensor:  # fmt: skip
    """Matrix product of quantized tensors."""
    sums = _shifted(a, a_zero, -2) @ _shifted(b, b_zero, -1)
    return _requantize(sums * a_scale.double() * b_scale.double(), y_scale, y_zero)


def qonnx_quant(
    x: Tensor, scale: Tensor, zero: Tensor, bits: Numbers, *, signed: int, narrow: int, rounding_mode: str = "ROUND"
) -> Tensor:
    """QONNX Quant: to a grid of any number of bits and back, in floating point.

    (clip(round(x / scale + zero), low, high) - zero) scale
    """
    width = float(bits.reshape(-1)[0])
    low, high = _qonnx_range(width, bool(signed), bool(narrow))
    rounding = {"ROUND": torch.round, "CEIL": torch.ceil, "FLOOR": torch.floor, "ROUND_TO_ZERO": torch.trunc}
    mode = rounding.get(rounding_mode.upper())
    if mode is None:
        raise Unsupported("Quant", found=f"rounding mode {rounding_mode!r}", expected=", ".join(rounding))
    grid = mode(torch.clamp(x / scale + zero, low, high))
    held = straight_through(x / scale + zero, low, high, grid)
    return (held - zero) * scale


def straight_through(x: Tensor, low: float, high: float, grid: Tensor) -> Tensor:
    """The value of `grid` with the gradient of a clamp (Bengio et al. 2013, straight-through estimator)."""
    clamped = torch.clamp(x, low, high)
    return clamped + (grid - clamped).detach()


def _qonnx_range(bits: float, signed: bool, narrow: bool) -> tuple[float, float]:
    if signed:
        return -(2 ** (bits - 1)) + float(narrow), 2 ** (bits - 1) - 1
    return 0.0, 2**bits - 1 - float(narrow)


def bipolar_quant(x: Tensor, scale: Tensor) -> Tensor:
    """QONNX BipolarQuant: -scale or +scale."""
    sign = torch.where(x / scale >= 0, 1.0, -1.0)
    return straight_through(x / scale, -1.0, 1.0, sign) * scale


QUANT = Operator(qonnx_quant, numbers=(3,), weights=(0,), foldable=False)
BIPOLAR = Operator(bipolar_quant, weights=(0,), foldable=False)

OPERATORS: Operators = {
    "edgepress::QuantizedWeight": Operator(quantized_weight, weights=(0,), foldable=False),
    "edgepress::QuantizedLinear": Operator(quantized_linear, weights=(1, 2), foldable=False),
    "edgepress::QuantizedRows": Operator(quantized_rows, weights=(0,), known=(1,), foldable=False),
    "edgepress::DynamicGrid": Operator(dynamic_grid, foldable=False),
    "QuantizeLinear": Operator(quantize, known=(1, 2), input_types=((2, "zero_type"),), foldable=False),
    "DequantizeLinear": Operator(dequantize, known=(1, 2), foldable=False),
    "DynamicQuantizeLinear": Operator(dynamic_quantize),
    "ConvInteger": Operator(conv_integer),
    "MatMulInteger": Operator(matmul_integer),
    "QLinearConv": Operator(q_linear_conv),
    "QLinearMatMul": Operator(q_linear_matmul),
    "onnx.brevitas::Quant": QUANT,
    "qonnx.custom_op.general::Quant": QUANT,
    "onnx.brevitas::BipolarQuant": BIPOLAR,
    "qonnx.custom_op.general::BipolarQuant": BIPOLAR,
}
