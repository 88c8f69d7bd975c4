"""Operators of onnxruntime's own domain that its optimizer and converters leave in files."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from edgepress.importers.onnx.entry import Operator, Operators
from edgepress.importers.onnx.ops import conv as convolutions
from edgepress.importers.onnx.ops import quant
from edgepress.importers.onnx.values import Unsupported

ACTIVATIONS: dict[str, Callable[..., Tensor]] = {
    "Relu": F.relu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "LeakyRelu": F.leaky_relu,
    "HardSigmoid": lambda x, alpha=0.2, beta=0.5: torch.clamp(alpha * x + beta, 0.0, 1.0),
    "Clip": torch.clamp,
}


def activate(x: Tensor, name: str | None, parameters: Any = ()) -> Tensor:
    """The activation fused into a layer."""
    if not name:
        return x
    if name not in ACTIVATIONS:
        raise Unsupported("a fused layer", found=f"activation {name!r}", expected=", ".join(ACTIVATIONS))
    return ACTIVATIONS[name](x, *parameters)


def fused_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, added: Tensor | None = None, *,
    activation: str | None = None, activation_params: Any = (), **attributes: Any,
) -> Tensor:  # fmt: skip
    """Convolution, a residual, an activation."""
    y = convolutions.conv(x, weight, bias, **attributes)
    return activate(y if added is None else y + added, activation, activation_params)


def fused_gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    activation: str | None = None,
    activation_alpha: float | None = None,
    activation_beta: float | None = None,
    activation_gamma: float | None = None,
    **attributes: Any,
) -> Tensor:
    """Gemm and an activation."""
    given = [value for value in (activation_alpha, activation_beta) if value is not None]
    return activate(convolutions.gemm(a, b, c, **attributes), activation, given)


def fused_matmul(
    a: Tensor, b: Tensor, *, alpha: float = 1.0, transA: int = 0, transB: int = 0,  # noqa: N803 - ONNX's names
    transBatchA: int = 0, transBatchB: int = 0,  # noqa: N803
) -> Tensor:  # fmt: skip
    """alpha A B with either side transposed."""
    if transBatchA or transBatchB:
        raise Unsupported("FusedMatMul", found="transposed batch axes", expected="none")
    left, right = (a.transpose(-1, -2) if transA else a), (b.transpose(-1, -2) if transB else b)
    return torch.matmul(left, right) * alpha if alpha != 1.0 else torch.matmul(left, right)


def gelu(x: Tensor) -> Tensor:
    """x Phi(x)."""
    return F.gelu(x)


def fast_gelu(x: Tensor, bias: Tensor | None = None) -> Tensor:
    """GELU by tanh, of x + bias."""
    return F.gelu(x if bias is None else x + bias, approximate="tanh")


def bias_gelu(x: Tensor, bias: Tensor) -> Tensor:
    """GELU of x + bias."""
    return F.gelu(x + bias)


def quick_gelu(x: Tensor, alpha: float = 1.702) -> Tensor:
    """x sigmoid(alpha x)."""
    return x * torch.sigmoid(alpha * x)


def simplified_layer_norm(
    x: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    """RMS normalisation."""
    return F.rms_norm(x, x.shape[axis % x.dim() :], scale, epsilon)


def skip_layer_norm(
    x: Tensor, skip: Tensor, scale: Tensor, shift: Tensor | None = None, bias: Tensor | None = None, *,
    epsilon: float = 1e-12,
) -> Any:  # fmt: skip
    """Layer normalisation of x + skip + bias; the sum is the fourth output."""
    total = x + skip if bias is None else x + skip + bias
    return F.layer_norm(total, total.shape[-1:], scale, shift, epsilon), None, None, total


def skip_simplified_layer_norm(
    x: Tensor, skip: Tensor, scale: Tensor, bias: Tensor | None = None, *, epsilon: float = 1e-12
) -> Any:
    """RMS normalisation of x + skip + bias; the sum is the fourth output."""
    total = x + skip if bias is None else x + skip + bias
    return F.rms_norm(total, total.shape[-1:], scale, epsilon), None, None, total


def dynamic_quantize_matmul(
    a: Tensor, b: Tensor, scale: Tensor, zero: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """Matrix product of an activation quantized on the way with stored integers."""
    return _spread(torch.matmul(quant.dynamic_grid(a), _real(b, scale, zero)), bias)


def matmul_integer_to_float(
    a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor,
    a_zero: Tensor | None = None, b_zero: Tensor | None = None, bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Matrix product of integers, as float; scales per column of b."""
    return _spread(torch.matmul(_real(a, a_scale, a_zero), _real(b, b_scale, b_zero)), bias)


def _real(whole: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    return (whole.float() - (0.0 if zero is None else zero.float())) * scale


def _spread(y: Tensor, bias: Tensor | None) -> Tensor:
    return y if bias is None else y + bias


def matmul_bits(
    a: Tensor, packed: Tensor, scales: Tensor, zeros: Tensor | None = None, groups: Tensor | None = None,
    bias: Tensor | None = None, *, K: int, N: int, bits: int = 4, block_size: int, accuracy_level: int = 0,  # noqa: N803
) -> Tensor:  # fmt: skip
    """Matrix product with a weight stored in blocks of a few bits, lowest bits first: packed (N, blocks, bytes)."""
    if bits not in (2, 4, 8) or groups is not None:
        raise Unsupported("MatMulNBits", found=f"{bits} bits" if groups is None else "groups in any order",
                          expected="2, 4 or 8 bits in blocks that follow one another")  # fmt: skip
    blocks = -(-K // block_size)
    whole = _unpacked(packed.reshape(N, blocks, -1), bits)  # (N, blocks, block_size)
    if zeros is None:
        middle: Tensor | float = float(2 ** (bits - 1))
    elif zeros.dtype == torch.uint8:
        middle = _unpacked(zeros.reshape(N, -1), bits)[:, :blocks, None].float()
    else:
        middle = zeros.reshape(N, blocks, 1)
    weight = (whole.float() - middle) * scales.reshape(N, blocks, 1)
    return F.linear(a, weight.reshape(N, -1)[:, :K], bias)


def _unpacked(stored: Tensor, bits: int) -> Tensor:
    """(..., bytes) -> (..., bytes 8 / bits)."""
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8)
    return ((stored[..., None] >> shifts) & (2**bits - 1)).flatten(-2)


OPERATORS: Operators = {
    "com.microsoft::FusedConv": Operator(fused_conv, weights=(1, 2)),
    "com.microsoft::FusedGemm": Operator(fused_gemm, weights=(1, 2)),
    "com.microsoft::FusedMatMul": Operator(fused_matmul, weights=(0, 1)),
    "com.microsoft::Gelu": Operator(gelu),
    "com.microsoft::FastGelu": Operator(fast_gelu, weights=(1,)),
    "com.microsoft::BiasGelu": Operator(bias_gelu, weights=(1,)),
    "com.microsoft::QuickGelu": Operator(quick_gelu),
    "com.microsoft::SkipLayerNormalization": Operator(skip_layer_norm, weights=(2, 3, 4)),
    "com.microsoft::SkipSimplifiedLayerNormalization": Operator(skip_simplified_layer_norm, weights=(2, 3)),
    "com.microsoft::DynamicQuantizeMatMul": Operator(dynamic_quantize_matmul, foldable=False),
    "com.microsoft::MatMulIntegerToFloat": Operator(matmul_integer_to_float, foldable=False),
    "com.microsoft::MatMulNBits": Operator(matmul_bits, weights=(5,)),
    "SimplifiedLayerNormalization": Operator(simplified_layer_norm, weights=(1,)),
}
