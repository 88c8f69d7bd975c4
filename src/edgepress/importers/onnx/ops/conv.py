"""Convolutions, linear layers and matrix products."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgepress.importers.onnx.entry import Operator, Operators
from edgepress.importers.onnx.ops.shape import pad_axes
from edgepress.importers.onnx.values import Unsupported, is_symbolic

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}

Pairs = list[tuple[Any, Any]]


def spatial_pads(
    sizes: Any, kernel: list[int], strides: list[int], dilations: list[int], pads: Any, auto_pad: str
) -> Pairs:
    """(before, after) of each spatial axis, from `pads` or `auto_pad`.

    SAME: output = ceil(input / stride), so total = max((output - 1) stride + extent - input, 0); the odd one goes
    after (UPPER) or before (LOWER).
    """
    rank = len(kernel)
    if auto_pad in ("NOTSET", "", "EXPLICIT"):
        flat = list(pads) if pads is not None else [0] * 2 * rank
        return [(flat[i], flat[rank + i]) for i in range(rank)]
    if auto_pad == "VALID":
        return [(0, 0)] * rank
    totals = [
        _same_total(size, (k - 1) * d + 1, s) for size, k, s, d in zip(sizes, kernel, strides, dilations, strict=True)
    ]
    halves = [(total // 2, total - total // 2) for total in totals]
    return halves if auto_pad == "SAME_UPPER" else [(after, before) for before, after in halves]


def _same_total(size: Any, extent: int, stride: int) -> Any:
    if stride == 1:
        return extent - 1
    total = ((size + stride - 1) // stride - 1) * stride + extent - size
    return torch.sym_max(total, 0) if is_symbolic(total) else max(total, 0)


def defaults(value: Any, rank: int, fill: int = 1) -> list[int]:
    """A per-axis attribute, or its default."""
    return [fill] * rank if value is None or not len(value) else list(value)


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    kernel_shape: Any = None,
    strides: Any = None,
    dilations: Any = None,
    pads: Any = None,
    group: int = 1,
    auto_pad: str = "NOTSET",
) -> Tensor:
    """Convolution over 1 to 3 axes: x (N, C, ...), weight (M, C / group, ...)."""
    rank = weight.dim() - 2
    if rank not in CONVOLUTIONS:
        raise Unsupported("convolution", found=f"{rank} spatial axes", expected="1, 2 or 3")
    stride, dilation = defaults(strides, rank), defaults(dilations, rank)
    amounts = spatial_pads(x.shape[2:], list(weight.shape[2:]), stride, dilation, pads, auto_pad)
    x, padding = explicit_padding(x, amounts)
    return CONVOLUTIONS[rank](x, weight, bias, stride, padding, dilation, group)


def explicit_padding(x: Tensor, amounts: Pairs) -> tuple[Tensor, list[int]]:
    """Leave symmetric padding to the operator; anything else is a pad before it."""
    if all(not is_symbolic(a) and not is_symbolic(b) and a == b and a >= 0 for a, b in amounts):
        return x, [a for a, _ in amounts]
    return pad_axes(x, [(0, 0), (0, 0), *amounts]), [0] * len(amounts)


def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    kernel_shape: Any = None,
    strides: Any = None,
    dilations: Any = None,
    pads: Any = None,
    output_padding: Any = None,
    output_shape: Any = None,
    group: int = 1,
    auto_pad: str = "NOTSET",
) -> Tensor:
    """Transposed convolution: x (N, C, ...), weight (C, M / group, ...); `pads` cut the output."""
    rank = weight.dim() - 2
    if rank not in TRANSPOSED:
        raise Unsupported("transposed convolution", found=f"{rank} spatial axes", expected="1, 2 or 3")
    stride, dilation = defaults(strides, rank), defaults(dilations, rank)
    extra = defaults(output_padding, rank, 0)
    full = [
        (n - 1) * s + (k - 1) * d + 1 + e
        for n, s, k, d, e in zip(x.shape[2:], stride, weight.shape[2:], dilation, extra, strict=True)
    ]
    cuts = _output_cuts(x, full, stride, pads, output_shape, auto_pad)
    if all(not is_symbolic(a) and a == b and a >= 0 for a, b in cuts) and _torch_takes(extra, stride, dilation):
        padding = [a for a, _ in cuts]
        return TRANSPOSED[rank](x, weight, bias, stride, padding, extra, group, dilation)
    y = TRANSPOSED[rank](x, weight, bias, stride, 0, 0, group, dilation)
    return _cut(y, cuts, extra, bias)


def _torch_takes(extra: list[int], stride: list[int], dilation: list[int]) -> bool:
    return all(e == 0 or e < max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True))


def _cut(y: Tensor, cuts: Pairs, extra: list[int], bias: Tensor | None) -> Tensor:
    """Cut `before` and `after - output_padding`; what is left over at the end is bias on nothing."""
    amounts = [(-before, e - after) for (before, after), e in zip(cuts, extra, strict=True)]
    if bias is None or all(after <= 0 for _, after in amounts):
        return pad_axes(y, [(0, 0), (0, 0), *amounts])
    offset = bias.reshape(1, -1, *[1] * len(cuts))
    return pad_axes(y - offset, [(0, 0), (0, 0), *amounts]) + offset


def _output_cuts(x: Tensor, full: list[Any], stride: list[int], pads: Any, output_shape: Any, auto_pad: str) -> Pairs:
    rank = len(full)
    if output_shape is None and auto_pad in ("NOTSET", ""):
        flat = defaults(pads, 2 * rank, 0)
        return [(flat[i], flat[rank + i]) for i in range(rank)]
    if output_shape is None and auto_pad == "VALID":
        return [(0, 0)] * rank
    wanted = (
        list(output_shape)[-rank:]
        if output_shape is not None
        else [n * s for n, s in zip(x.shape[2:], stride, strict=True)]
    )
    totals = [f - w for f, w in zip(full, wanted, strict=True)]
    if auto_pad == "SAME_UPPER":
        return [(t // 2, t - t // 2) for t in totals]
    return [(t - t // 2, t // 2) for t in totals]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b; made by the importer from Gemm and MatMul with constant weights."""
    return F.linear(x, weight, bias)


def gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803 - ONNX's name
    transB: int = 0,  # noqa: N803
    broadcast: int = 1,
) -> Tensor:
    """alpha A B + beta C."""
    if transB and not transA and alpha == beta == 1.0 and (c is None or c.shape == b.shape[:1]):
        return F.linear(a, b, c)
    product = (a.t() if transA else a) @ (b.t() if transB else b)
    product = product if alpha == 1.0 else alpha * product
    if c is None:
        return product.to(a.dtype)
    return (product + (c if beta == 1.0 else beta * c)).to(a.dtype)


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product with numpy's broadcasting."""
    if a.dtype in (torch.uint32, torch.uint64):
        return torch.matmul(a.to(torch.int64), b.to(torch.int64)).to(a.dtype)
    return torch.matmul(a, b)


def determinant(x: Tensor) -> Tensor:
    """Determinant of square matrices."""
    return torch.linalg.det(x)


def deform_conv(
    x: Tensor,
    weight: Tensor,
    offset: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    kernel_shape: Any = None,
    strides: Any = None,
    dilations: Any = None,
    pads: Any = None,
    group: int = 1,
    offset_group: int = 1,
) -> Tensor:
    """Deformable 2-D convolution: samples at learned offsets, bilinear, zeros outside, then a product with the weights.

    offset is (N, offset_group kh kw 2, oh, ow) with (y, x) pairs; mask (N, offset_group kh kw, oh, ow).
    """
    stride, dilation, padding = defaults(strides, 2), defaults(dilations, 2), defaults(pads, 4, 0)
    n, channels = x.shape[:2]
    kh, kw = weight.shape[2:]
    oh, ow = offset.shape[2:]
    shifts = offset.reshape(n, offset_group, kh * kw, 2, oh, ow)
    ys = _sample_positions(oh, kh, stride[0], dilation[0], padding[0])  # (kh, oh)
    xs = _sample_positions(ow, kw, stride[1], dilation[1], padding[1])
    y = ys.reshape(kh, 1, oh, 1).expand(kh, kw, oh, ow).reshape(1, 1, kh * kw, oh, ow) + shifts[:, :, :, 0]
    z = xs.reshape(1, kw, 1, ow).expand(kh, kw, oh, ow).reshape(1, 1, kh * kw, oh, ow) + shifts[:, :, :, 1]
    samples = _bilinear(x.reshape(n * offset_group, channels // offset_group, *x.shape[2:]), y, z)
    if mask is not None:
        samples = samples * mask.reshape(n * offset_group, 1, kh * kw * oh * ow)
    columns = samples.reshape(n, group, channels // group * kh * kw, oh * ow)
    kernels = weight.reshape(group, weight.shape[0] // group, -1)
    result = torch.einsum("gok,ngkp->ngop", kernels, columns).reshape(n, -1, oh, ow)
    return result if bias is None else result + bias.reshape(1, -1, 1, 1)


def _sample_positions(out: int, kernel: int, stride: int, dilation: int, pad: int) -> Tensor:
    return torch.arange(kernel)[:, None] * dilation + torch.arange(out)[None, :] * stride - float(pad)


def _bilinear(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Samples (N G, C / G, points) of x (N G, C / G, H, W) at pixel positions; zero outside."""
    height, width = x.shape[2:]
    grid = torch.stack([2 * z / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], dim=-1)
    grid = grid.reshape(x.shape[0], 1, -1, 2)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=True).squeeze(2)


def col2im(
    x: Tensor,
    image_shape: Any,
    block_shape: Any,
    *,
    dilations: Any = None,
    pads: Any = None,
    strides: Any = None,
) -> Tensor:
    """Sum blocks (N, C prod(block), L) back into an image, over any number of axes."""
    image, block = [int(n) for n in image_shape], [int(n) for n in block_shape]
    rank = len(image)
    dilation, stride, padding = defaults(dilations, rank), defaults(strides, rank), defaults(pads, 2 * rank, 0)
    padded = [n + padding[i] + padding[rank + i] for i, n in enumerate(image)]
    position = torch.zeros((1,) * (2 * rank), dtype=torch.int64)
    for i in range(rank):
        steps = (padded[i] - dilation[i] * (block[i] - 1) - 1) // stride[i] + 1
        along = torch.arange(block[i])[:, None] * dilation[i] + torch.arange(steps)[None, :] * stride[i]
        shape = [1] * (2 * rank)
        shape[i], shape[rank + i] = along.shape
        position = position * padded[i] + along.reshape(shape)
    n, channels = x.shape[0], x.shape[1] // int(np.prod(block))
    flat = torch.zeros(n, channels, int(np.prod(padded)), dtype=x.dtype)
    flat = flat.index_add(2, position.reshape(-1), x.reshape(n, channels, -1))
    amounts = [(-padding[i], -padding[rank + i]) for i in range(rank)]
    return pad_axes(flat.reshape(n, channels, *padded), [(0, 0), (0, 0), *amounts])


def causal_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    state: Tensor | None = None,
    *,
    activation: str = "none",
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Depthwise causal convolution (N, C, L) with a carried state of kernel - 1 steps."""
    carried = weight.shape[-1] - 1
    past = torch.zeros(*x.shape[:2], carried, dtype=x.dtype) if state is None else state
    joined = torch.cat([past, x], dim=2)
    y = F.conv1d(joined, weight.reshape(weight.shape[0], 1, -1), bias, groups=x.shape[1])
    y = F.silu(y) if activation in ("silu", "swish") else y
    return y, joined[:, :, joined.shape[2] - carried :]


OPERATORS: Operators = {
    "Conv": Operator(conv, weights=(1, 2)),
    "ConvTranspose": Operator(conv_transpose, weights=(1, 2)),
    "DeformConv": Operator(deform_conv, weights=(1, 3)),
    "Col2Im": Operator(col2im, numbers=(1, 2)),
    "CausalConvWithState": Operator(causal_conv, weights=(1, 2)),
    "Gemm": Operator(gemm, weights=(1, 2)),
    "MatMul": Operator(matmul, weights=(0, 1)),
    "Det": Operator(determinant),
    "edgepress::Linear": Operator(linear, weights=(1, 2)),
}
