"""Operators of onnxruntime's own domain that its optimizer and converters leave in files."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from edgepress.importers.onnx.entry import Operator, Operators, select
from edgepress.importers.onnx.ops import conv as convolutions
from edgepress.importers.onnx.ops import index, pool, quant, shape, vision
from edgepress.importers.onnx.values import Numbers, Unsupported

BYTES = 2
"""TensorProto.UINT8"""

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
    """alpha A B with either side transposed; its first axis may stand for rows, before the axes of the batch."""
    left, right = (x.movedim(0, -2) if moved else x for x, moved in ((a, transBatchA), (b, transBatchB)))
    left, right = (left.transpose(-1, -2) if transA else left), (right.transpose(-1, -2) if transB else right)
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


def gather_block_quantized(
    table: Tensor, rows: Tensor, scales: Tensor, zeros: Tensor | None = None, *,
    gather_axis: int = 0, quantize_axis: int = 1, block_size: int = 128, bits: int = 4, table_type: int = 2,
) -> Tensor:  # fmt: skip
    """Rows of a table of a few bits, with one scale for each block along an axis."""
    if gather_axis or quantize_axis % scales.dim() != scales.dim() - 1:
        raise Unsupported("GatherBlockQuantized", found=f"axes {gather_axis} and {quantize_axis}",
                          expected="rows of the first axis, blocks along the last")  # fmt: skip
    packed = table_type == BYTES and bits < 8  # types of 4 bits hold one number in each element
    whole = _unpacked(table, bits) if packed else table
    middle: Tensor | float = 2.0 ** (bits - 1) if table.dtype == torch.uint8 else 0.0
    if zeros is not None:
        held = _unpacked(zeros, bits)[..., : scales.shape[-1]] if packed else zeros
        middle = _blocks(held.float(), whole, block_size)
    real = (whole.float() - middle) * _blocks(scales, whole, block_size)
    return real[rows.to(torch.int64)]


def _blocks(of_blocks: Tensor, whole: Tensor, size: int) -> Tensor:
    return of_blocks.repeat_interleave(size, dim=-1)[..., : whole.shape[-1]]


def inverse(x: Tensor) -> Tensor:
    """Inverses of matrices (..., N, N)."""
    return torch.linalg.inv(x)


def pairwise_distance(a: Tensor, b: Tensor, *, metric: str = "sqeuclidean") -> Tensor:
    """Distances of each row of a to each row of b."""
    squares = (a[:, None, :] - b[None, :, :]).square().sum(-1)
    return torch.sqrt(squares) if metric == "euclidean" else squares


def expand_dims(x: Tensor, axis: Numbers) -> Tensor:
    """An axis of size 1."""
    return x.unsqueeze(int(axis.reshape(-1)[0]))


def unfold(x: Tensor, *, size: int, dim: int = -1, step: int = 1) -> Tensor:
    """Windows along an axis, as a new last axis."""
    return x.unfold(dim, size, step)


def nhwc_max_pool(x: Tensor, **attributes: Any) -> Tensor:
    """MaxPool with channels last."""
    pooled: Tensor = pool.max_pool(x.movedim(-1, 1), **attributes)
    return pooled.movedim(1, -1)


def nhwc_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, added: Tensor | None = None, **how: Any) -> Tensor:
    """Convolution of x (N, H, W, C) with weights (M, kH, kW, C / group); a residual and an activation may follow."""
    residual = None if added is None else added.movedim(-1, 1)
    return fused_conv(x.movedim(-1, 1), weight.movedim(-1, 1), bias, residual, **how).movedim(1, -1)


def _alias(table: Operators, kind: str, opset: int) -> Operator:
    """An operator of the default domain under another name."""
    found = select(table[kind], opset)
    assert found is not None
    return found


ALIASES: Operators = {
    "com.microsoft::Pad": _alias(shape.OPERATORS, "Pad", 13),
    "com.microsoft::Range": _alias(shape.OPERATORS, "Range", 13),
    "com.microsoft::Trilu": _alias(shape.OPERATORS, "Trilu", 14),
    "com.microsoft::GatherND": _alias(index.OPERATORS, "GatherND", 13),
    "com.microsoft::Unique": _alias(index.OPERATORS, "Unique", 13),
    "com.microsoft::GridSample": _alias(vision.OPERATORS, "GridSample", 16),
    "com.microsoft::QuantizeLinear": _alias(quant.OPERATORS, "QuantizeLinear", 21),
    "com.microsoft::DequantizeLinear": _alias(quant.OPERATORS, "DequantizeLinear", 21),
    "com.microsoft::MatMulInteger16": _alias(quant.OPERATORS, "MatMulInteger", 13),
}

OPERATORS: Operators = {
    **ALIASES,
    "com.microsoft::TransposeMatMul": Operator(fused_matmul, weights=(0, 1)),
    "com.microsoft::GatherBlockQuantized": Operator(gather_block_quantized, input_types=((0, "table_type"),)),
    "com.microsoft::Inverse": Operator(inverse),
    "com.microsoft::CDist": Operator(pairwise_distance),
    "com.microsoft::ExpandDims": Operator(expand_dims, numbers=(1,)),
    "com.microsoft::UnfoldTensor": Operator(unfold),
    "com.microsoft::NhwcMaxPool": Operator(nhwc_max_pool),
    "com.microsoft::NhwcConv": Operator(nhwc_conv, weights=(1, 2)),
    "com.microsoft::NhwcFusedConv": Operator(nhwc_conv, weights=(1, 2)),
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
