"""Element types: casts, and the rounding of types that torch does not compute with."""

from typing import Any

import torch
from torch import Tensor

from edgepress.importers.onnx.entry import Operator, Operators
from edgepress.importers.onnx.ops import arithmetic as on
from edgepress.importers.onnx.values import torch_dtype

# ONNX type -> (smallest, largest) of integers narrower than what torch holds them in.
SUB_BYTE = {21: (0, 15), 22: (-8, 7), 25: (0, 3), 26: (-2, 1)}
FLOAT4 = 23
FLOAT4_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
FLOAT8_MAX = {17: 448.0, 18: 240.0, 19: 57344.0, 20: 57344.0}
FLOAT8_SCALE = 24


def cast(x: Tensor, to: int, saturate: int = 1, round_mode: str = "up") -> Tensor:
    """Change the element type.

    Floats outside float8 saturate (or become NaN/inf with saturate=0); integers narrower than a byte wrap around.
    """
    if to in SUB_BYTE:
        return wrap_integers(x, to)
    if to == FLOAT4:
        return round_float4(x.float())
    if to in FLOAT8_MAX:
        return to_float8(x, to, saturate=bool(saturate))
    if to == FLOAT8_SCALE:
        return to_scale(x.float(), round_mode, saturate=bool(saturate))
    target = torch_dtype(to)
    if x.dtype == torch.float8_e8m0fnu:
        x = x.float()
    if target in (torch.uint16, torch.uint32, torch.uint64, torch.uint8) and x.dtype.is_floating_point:
        return x.to(torch.int64).to(target)
    return x.to(target)


def cast_like(x: Tensor, like: Tensor, saturate: int = 1, round_mode: str = "up", like_type: int = 0) -> Tensor:
    """Change the element type to that of another tensor."""
    return cast(x, like_type, saturate, round_mode) if like_type else x.to(like.dtype)


def wrap_integers(x: Tensor, to: int) -> Tensor:
    """To a 2 or 4 bit integer: truncate, keep the low bits."""
    low, high = SUB_BYTE[to]
    span = high - low + 1
    whole = x.to(torch.int64)
    return ((whole - low) % span + low).to(torch_dtype(to))


def round_float4(x: Tensor) -> Tensor:
    """To the nearest of the 16 values of float4e2m1, ties to even mantissa; the result is held as float32."""
    levels = torch.tensor(FLOAT4_VALUES, dtype=torch.float32)
    size = torch.where(x.isnan(), torch.zeros_like(x), x.abs().clamp(max=6.0))
    upper = torch.searchsorted(levels, size.contiguous()).clamp(max=7)
    lower = (upper - 1).clamp(min=0)
    middle = (levels[lower] + levels[upper]) / 2
    take_upper = (size > middle) | ((size == middle) & (upper % 2 == 0))
    return torch.copysign(torch.where(take_upper, levels[upper], levels[lower]), x)


def to_float8(x: Tensor, to: int, *, saturate: bool) -> Tensor:
    """To an 8-bit float; what does not fit becomes the largest value, or NaN/inf without saturation."""
    target, largest = torch_dtype(to), FLOAT8_MAX[to]
    wide = x.float()
    rounded = wide.clamp(-largest, largest) if saturate else wide
    result = rounded.to(target)
    if saturate:
        return result
    overflow = (
        wide.abs() > float(result.float().abs().nan_to_num(0.0, 0.0).amax().clamp(min=largest))
        if wide.numel()
        else wide > 0
    )
    beyond = torch.full_like(wide, float("inf")).copysign(wide) if to == 19 else torch.full_like(wide, float("nan"))
    return torch.where(overflow, beyond.to(target).float(), result.float()).to(target)


def to_scale(x: Tensor, round_mode: str, *, saturate: bool) -> Tensor:
    """To float8e8m0: powers of two, rounded up, down or to nearest."""
    exponent = torch.log2(x)
    rounded = {"up": torch.ceil, "down": torch.floor, "nearest": torch.round}[round_mode](exponent)
    result = torch.exp2(rounded.clamp(-127, 127)) if saturate else torch.exp2(rounded)
    return result.to(torch.float8_e8m0fnu)


def bit_cast(x: Tensor, to: int) -> Any:
    """The same bits as another type of the same width."""
    return x.view(torch_dtype(to))


OPERATORS: Operators = {
    "Cast": Operator(cast, on_numbers=on.cast),
    "CastLike": Operator(cast_like, input_types=((1, "like_type"),), on_numbers=on.cast_like),
    "BitCast": Operator(bit_cast),
}
