"""Element-wise arithmetic and activations.

torch broadcasts as ONNX does. What differs is integers: ONNX truncates quotients towards zero and has unsigned types
that torch only stores; those are computed in a wider type (`widened`).
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import reduce, wraps
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from edgepress.importers.onnx.entry import ByVersion, Operator, Operators
from edgepress.importers.onnx.ops import arithmetic as on
from edgepress.importers.onnx.values import Numbers

UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)
"""Types torch stores but hardly computes with."""

UINT64_SIGN = 1 << 63


def widened(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Compute unsigned integers in int64 and wrap the result back.

    uint64 is reinterpreted: sums, products and bit patterns agree modulo 2^64.
    """

    @wraps(function)
    def compute(*inputs: Any, **attributes: Any) -> Tensor:
        unsigned = next((x.dtype for x in inputs if isinstance(x, Tensor) and x.dtype in UNSIGNED), None)
        if unsigned is None:
            return function(*inputs, **attributes)
        result = function(*map(_signed, inputs), **attributes)
        return result.to(unsigned) if result.dtype == torch.int64 else result

    return compute


def _signed(value: Any) -> Any:
    if not isinstance(value, Tensor) or value.dtype not in UNSIGNED:
        return value
    return value.view(torch.int64) if value.dtype == torch.uint64 else value.to(torch.int64)


def ordered(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """As `widened`, for functions that compare: shifts uint64 so that the order of int64 is the order of uint64."""
    plain = widened(function)

    @wraps(function)
    def compute(*inputs: Any, **attributes: Any) -> Tensor:
        if not any(isinstance(x, Tensor) and x.dtype == torch.uint64 for x in inputs):
            return plain(*inputs, **attributes)
        result = function(*((x.view(torch.int64) ^ -UINT64_SIGN) for x in inputs), **attributes)
        return (result ^ -UINT64_SIGN).view(torch.uint64) if result.dtype == torch.int64 else result

    return compute


@widened
def add(a: Tensor, b: Tensor) -> Tensor:
    """a + b."""
    return torch.add(a, b)


@widened
def sub(a: Tensor, b: Tensor) -> Tensor:
    """a - b."""
    return torch.sub(a, b)


@widened
def mul(a: Tensor, b: Tensor) -> Tensor:
    """a * b."""
    return torch.mul(a, b)


def div(a: Tensor, b: Tensor) -> Tensor:
    """a / b; integers truncate towards zero, as in C."""
    if a.dtype.is_floating_point:
        return torch.div(a, b)
    return _divide_integers(a, b)


@widened
def _divide_integers(a: Tensor, b: Tensor) -> Tensor:
    return torch.div(a, b, rounding_mode="trunc").to(a.dtype)


@widened
def mod(a: Tensor, b: Tensor, fmod: int = 0) -> Tensor:
    """Remainder with the sign of the divisor (Python), or of the dividend with fmod=1 (C)."""
    return torch.fmod(a, b) if fmod else torch.remainder(a, b)


def power(a: Tensor, b: Tensor | Numbers) -> Tensor:
    """a ** b in the type of a. A single known exponent stays a plain number, for which autograd has simpler rules."""
    if not isinstance(b, Tensor):
        if b.size == 1 and a.dtype.is_floating_point and b.ndim <= a.dim():
            exponent = b.reshape(-1)[0].item()
            return a * a if exponent == 2 else torch.pow(a, exponent)
        b = torch.from_numpy(b)
    if a.dtype.is_floating_point or not b.dtype.is_floating_point:
        return _power(a, b).to(a.dtype)
    return torch.pow(a.to(b.dtype), b).to(a.dtype)


@widened
def _power(a: Tensor, b: Tensor) -> Tensor:
    return torch.pow(a, b)


def negate(x: Tensor) -> Tensor:
    """-x."""
    return torch.neg(x)


def absolute(x: Tensor) -> Tensor:
    """|x|; unsigned types are already."""
    return x if x.dtype in (*UNSIGNED, torch.uint8) else torch.abs(x)


def sign(x: Tensor) -> Tensor:
    """-1, 0 or 1; keeps the type."""
    return torch.sign(x)


def minimum(*inputs: Tensor) -> Tensor:
    """Element-wise minimum of all inputs; NaN wins."""
    return reduce(ordered(torch.minimum), inputs)


def maximum(*inputs: Tensor) -> Tensor:
    """Element-wise maximum of all inputs; NaN wins."""
    return reduce(ordered(torch.maximum), inputs)


def total(*inputs: Tensor) -> Tensor:
    """Sum of all inputs."""
    return reduce(torch.add, inputs)


def mean(*inputs: Tensor) -> Tensor:
    """Mean of all inputs."""
    return reduce(torch.add, inputs) / len(inputs)


def round_half_even(x: Tensor) -> Tensor:
    """Nearest integer, halves to even."""
    return torch.round(x)


def is_infinite(x: Tensor, detect_positive: int = 1, detect_negative: int = 1) -> Tensor:
    """Where x is +inf and/or -inf."""
    found = torch.isinf(x)
    if not detect_positive:
        found = found & (x < 0)
    return found if detect_negative else found & (x > 0)


def where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a where the condition holds, else b."""
    return torch.where(condition, a, b)


def bit_shift(a: Tensor, b: Tensor, direction: str) -> Tensor:
    """Shift bits LEFT or RIGHT, zeros in (the types are unsigned, or signed from opset 26 on)."""
    shifted = _shift(a, b, left=direction == "LEFT")
    return shifted.to(a.dtype)


def _shift(a: Tensor, b: Tensor, *, left: bool) -> Tensor:
    bits = a.dtype.itemsize * 8
    wide, by = _signed(a).to(torch.int64), _signed(b).to(torch.int64)
    by_valid = by.clamp(0, 63)
    if left:
        result = torch.bitwise_left_shift(wide, by_valid)
    elif a.dtype == torch.uint64:  # an arithmetic shift of the reinterpreted bits needs its sign bits cleared
        mask = torch.where(by_valid > 0, (torch.ones_like(wide) << (64 - by_valid.clamp(min=1))) - 1, -1)
        result = torch.bitwise_right_shift(wide, by_valid) & mask
    else:
        result = torch.bitwise_right_shift(wide, by_valid)
    overflow = torch.where(wide < 0, -1, 0) if not left and a.dtype.is_signed else torch.zeros_like(wide)
    return torch.where((by < 0) | (by >= bits), overflow, result)  # counts are unsigned: negative ones are huge


def bitwise(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A bitwise function that also takes wide unsigned types."""
    return widened(function)


def clip(x: Tensor, low: Numbers | None = None, high: Numbers | None = None) -> Tensor:
    """Bound x from below and above; (0, 6) and (0, inf) are the activations they are known as."""
    lower, upper = _bound(low), _bound(high)
    if lower is None and upper is None:
        return x
    if not x.dtype.is_floating_point:
        return _clip_integers(x, lower, upper)
    if (lower, upper) == (0.0, 6.0):
        return F.relu6(x)
    if lower == 0.0 and upper in (None, math.inf):
        return F.relu(x)
    if lower is not None and upper is not None and lower > upper:
        return torch.full_like(x, upper)
    if lower is not None and upper is not None and lower < upper:
        return F.hardtanh(x, lower, upper)  # which runtimes fuse
    return torch.clamp(x, lower, upper)


def _bound(numbers: Numbers | None) -> float | None:
    return None if numbers is None or numbers.size == 0 else numbers.reshape(-1)[0].item()


@widened
def _clip_integers(x: Tensor, lower: float | None, upper: float | None) -> Tensor:
    return torch.clamp(
        x, None if lower is None else int(lower), None if upper is None else int(min(upper, 2.0**63 - 1))
    )


def clip_attributes(x: Tensor, min: float | None = None, max: float | None = None) -> Tensor:
    """Clip before opset 11: the bounds are attributes."""
    return clip(x, _scalar(min), _scalar(max))


def _scalar(value: float | None) -> Numbers | None:
    return None if value is None or abs(value) > 3.4e38 else on.array(value)


def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """x if positive, else alpha (e^x - 1)."""
    return F.elu(x, alpha)


def celu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """max(0, x) + min(0, alpha (e^(x/alpha) - 1))."""
    return F.celu(x.float(), alpha).to(x.dtype)


def selu(x: Tensor, alpha: float = 1.6732632423543772, gamma: float = 1.0507009873554805) -> Tensor:
    """gamma (x if positive, else alpha (e^x - 1))."""
    if math.isclose(alpha, 1.6732632423543772, rel_tol=1e-6) and math.isclose(gamma, 1.0507009873554805, rel_tol=1e-6):
        return F.selu(x)
    return gamma * F.elu(x, alpha)


def leaky_relu(x: Tensor, alpha: float = 0.01) -> Tensor:
    """x if positive, else alpha x."""
    return F.leaky_relu(x, alpha)


def thresholded_relu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """x where it is above alpha, else 0."""
    return F.threshold(x, alpha, 0.0)


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """x if positive, else slope x, with the slope broadcast to x."""
    if _is_per_channel(x, slope):
        return F.prelu(x, slope.reshape(-1))
    return torch.where(x >= 0, x, slope * x)


def _is_per_channel(x: Tensor, slope: Tensor) -> bool:
    """(C, 1, ...) against (N, C, ...): what `F.prelu` takes."""
    if slope.numel() == 1:
        return x.dim() >= 1
    return x.dim() >= 2 and slope.dim() == x.dim() - 1 and slope.shape[0] == slope.numel() == x.shape[1]


def channel_prelu(x: Tensor, slope: Tensor, *, rank: int) -> Tensor:
    """PRelu with a slope per channel, flattened at import from (C, 1, ...) of that rank."""
    if x.dim() == rank + 1:
        return F.prelu(x, slope)
    return prelu(x, slope.reshape(-1, *[1] * (rank - 1)))


def hard_sigmoid(x: Tensor, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    """max(0, min(1, alpha x + beta)); torch's own is the one of slope 1/6."""
    if math.isclose(alpha, 1 / 6, rel_tol=1e-5) and beta == 0.5:
        return F.hardsigmoid(x)
    return torch.clamp(x * alpha + beta, 0.0, 1.0)


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """x Phi(x), exactly or by tanh."""
    return F.gelu(x, approximate=approximate)


def shrink(x: Tensor, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    """x + bias below -lambd, x - bias above lambd, else 0."""
    zero = torch.zeros_like(x)
    return torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, zero)).to(x.dtype)


def swish(x: Tensor, alpha: float = 1.0) -> Tensor:
    """x sigmoid(alpha x)."""
    return F.silu(x) if alpha == 1.0 else x * torch.sigmoid(alpha * x)


def swiglu(gate: Tensor, value: Tensor, alpha: float = 1.0) -> Tensor:
    """swish(gate) times value."""
    return swish(gate, alpha) * value


def aligned(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Before opset 7 the second operand broadcasts only if asked to, with its axes starting at `axis` of the first."""

    def compute(a: Tensor, b: Tensor, axis: int | None = None, broadcast: int = 0) -> Tensor:
        if broadcast and axis is not None:
            b = b.reshape(*b.shape, *[1] * (a.dim() - axis % a.dim() - b.dim()))
        return function(a, b)

    return compute


def prelu_by_channel(x: Tensor, slope: Tensor) -> Tensor:
    """PRelu before opset 7: one slope, or one per channel."""
    return F.prelu(x, slope.reshape(-1))


def _aligned(operator: Operator) -> ByVersion:
    return {1: replace(operator, run=aligned(operator.run), known=(), on_numbers=None), 7: operator}


OPERATORS: Operators = {
    "Add": _aligned(Operator(add, on_numbers=on.add, weights=(0, 1))),
    "Sub": _aligned(Operator(sub, on_numbers=on.sub, weights=(0, 1))),
    "Mul": _aligned(Operator(mul, on_numbers=on.mul, weights=(0, 1))),
    "Div": _aligned(Operator(div, on_numbers=on.div, weights=(0, 1))),
    "Mod": Operator(mod, on_numbers=on.mod),
    "Pow": _aligned(Operator(power, known=(1,), on_numbers=on.power)),
    "Neg": Operator(negate, on_numbers=on.negate),
    "Abs": Operator(absolute, on_numbers=on.absolute),
    "Sign": Operator(sign),
    "Min": Operator(minimum, on_numbers=on.minimum),
    "Max": Operator(maximum, on_numbers=on.maximum),
    "Sum": Operator(total),
    "Mean": Operator(mean),
    "Sqrt": Operator(torch.sqrt, on_numbers=on.square_root),
    "Reciprocal": Operator(torch.reciprocal),
    "Exp": Operator(torch.exp),
    "Log": Operator(torch.log),
    "Floor": Operator(torch.floor, on_numbers=on.floor),
    "Ceil": Operator(torch.ceil, on_numbers=on.ceil),
    "Round": Operator(round_half_even),
    "Erf": Operator(torch.erf),
    "Sin": Operator(torch.sin),
    "Cos": Operator(torch.cos),
    "Tan": Operator(torch.tan),
    "Asin": Operator(torch.asin),
    "Acos": Operator(torch.acos),
    "Atan": Operator(torch.atan),
    "Sinh": Operator(torch.sinh),
    "Cosh": Operator(torch.cosh),
    "Tanh": Operator(torch.tanh),
    "Asinh": Operator(torch.asinh),
    "Acosh": Operator(torch.acosh),
    "Atanh": Operator(torch.atanh),
    "IsNaN": Operator(torch.isnan),
    "IsInf": Operator(is_infinite),
    "And": _aligned(Operator(torch.logical_and, on_numbers=on.logical_and)),
    "Or": _aligned(Operator(torch.logical_or, on_numbers=on.logical_or)),
    "Xor": _aligned(Operator(torch.logical_xor)),
    "Not": Operator(torch.logical_not, on_numbers=on.logical_not),
    "Equal": _aligned(Operator(widened(torch.eq), on_numbers=on.equal)),
    "Less": _aligned(Operator(ordered(torch.lt), on_numbers=on.less)),
    "LessOrEqual": Operator(ordered(torch.le), on_numbers=on.less_or_equal),
    "Greater": _aligned(Operator(ordered(torch.gt), on_numbers=on.greater)),
    "GreaterOrEqual": Operator(ordered(torch.ge), on_numbers=on.greater_or_equal),
    "Where": Operator(where, on_numbers=on.where),
    "BitShift": Operator(bit_shift),
    "BitwiseAnd": Operator(bitwise(torch.bitwise_and)),
    "BitwiseOr": Operator(bitwise(torch.bitwise_or)),
    "BitwiseXor": Operator(bitwise(torch.bitwise_xor)),
    "BitwiseNot": Operator(bitwise(torch.bitwise_not)),
    "Clip": {1: Operator(clip_attributes), 11: Operator(clip, numbers=(1, 2))},
    "Relu": Operator(F.relu),
    "Sigmoid": Operator(torch.sigmoid),
    "Softplus": Operator(F.softplus),
    "Softsign": Operator(F.softsign),
    "Elu": Operator(elu),
    "Celu": Operator(celu),
    "Selu": Operator(selu),
    "LeakyRelu": Operator(leaky_relu),
    "ThresholdedRelu": Operator(thresholded_relu),
    "PRelu": {1: Operator(prelu_by_channel, weights=(1,)), 7: Operator(prelu, weights=(1,))},
    "edgepress::PRelu": Operator(channel_prelu, weights=(1,)),
    "HardSigmoid": Operator(hard_sigmoid),
    "HardSwish": Operator(F.hardswish),
    "Mish": Operator(F.mish),
    "Gelu": Operator(gelu),
    "Shrink": Operator(shrink),
    "Swish": Operator(swish),
    "SwiGLU": Operator(swiglu),
}
