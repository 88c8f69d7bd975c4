"""Pooling, un-pooling and global pooling."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from edgepress.importers.onnx.entry import Operator, Operators
from edgepress.importers.onnx.ops.conv import Pairs, defaults, spatial_pads
from edgepress.importers.onnx.ops.shape import pad_axes
from edgepress.importers.onnx.values import Numbers, Unsupported, is_symbolic

MAX_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVERAGE_POOLS: dict[int, Any] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
ADAPTIVE_POOLS: dict[int, Any] = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}
ADAPTIVE_MAX: dict[int, Any] = {1: F.adaptive_max_pool1d, 2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}


def ceil_extra(size: Any, kernel: int, stride: int, dilation: int, pair: tuple[Any, Any]) -> Any:
    """How much longer the padded axis must be so that ceil_mode's last window fits.

    A window that would start in the padding after the data is not counted (as onnxruntime and torch do).
    """
    span = size + pair[0] + pair[1] - (dilation * (kernel - 1) + 1)
    outputs = (span + stride - 1) // stride + 1
    outputs = outputs - 1 if (outputs - 1) * stride >= size + pair[0] else outputs
    return max((outputs - 1) * stride - span, 0)


def windows(
    x: Tensor, kernel: list[int], strides: Any, dilations: Any, pads: Any, auto_pad: str, ceil_mode: int
) -> tuple[list[int], list[int], Pairs, list[Any]]:
    """Strides, dilations, padding and the extra end that ceil_mode asks for."""
    rank = len(kernel)
    if x.dim() != rank + 2:
        raise ValueError(f"a kernel of {rank} axes on a tensor of {x.dim()}")
    stride, dilation = defaults(strides, rank), defaults(dilations, rank)
    amounts = spatial_pads(x.shape[2:], kernel, stride, dilation, pads, auto_pad)
    extra: list[Any] = [0] * rank
    if ceil_mode:
        extra = [ceil_extra(*of_axis) for of_axis in zip(x.shape[2:], kernel, stride, dilation, amounts, strict=True)]
    return stride, dilation, amounts, extra


def _is_plain(amounts: Pairs, extra: list[Any], kernel: list[int]) -> bool:
    """True if torch's pooling takes the padding itself: symmetric and at most half a window."""
    symmetric = all(
        not is_symbolic(a) and a == b and 0 <= a <= k // 2 for (a, b), k in zip(amounts, kernel, strict=True)
    )
    return symmetric and not any(is_symbolic(e) or e for e in extra)


def max_pool(
    x: Tensor,
    *,
    kernel_shape: Any,
    strides: Any = None,
    dilations: Any = None,
    pads: Any = None,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    storage_order: int = 0,
    outputs: int = 1,
) -> Any:
    """Largest of each window, and where it is in the flattened input if asked for."""
    kernel = list(kernel_shape)
    stride, dilation, amounts, extra = windows(x, kernel, strides, dilations, pads, auto_pad, ceil_mode)
    if outputs > 1:
        return _max_pool_indices(x, kernel, stride, dilation, amounts, extra, storage_order)
    if len(kernel) not in MAX_POOLS:
        raise Unsupported("pooling", found=f"{len(kernel)} axes", expected="1, 2 or 3")
    held = x if x.dtype.is_floating_point else x.to(torch.float32)
    if _is_plain(amounts, extra, kernel):
        return MAX_POOLS[len(kernel)](held, kernel, stride, [a for a, _ in amounts], dilation).to(x.dtype)
    held = pad_axes(held, _with_extra(amounts, extra), fill=-float("inf"))
    return MAX_POOLS[len(kernel)](held, kernel, stride, 0, dilation).to(x.dtype)


def _with_extra(amounts: Pairs, extra: list[Any]) -> Pairs:
    return [(0, 0), (0, 0), *((a, b + e) for (a, b), e in zip(amounts, extra, strict=True))]


def _max_pool_indices(
    x: Tensor, kernel: list[int], stride: list[int], dilation: list[int], amounts: Pairs, extra: list[Any], order: int
) -> tuple[Tensor, Tensor]:
    """Also the position of each maximum in the whole tensor, row-major (or column-major over the spatial axes)."""
    padded = pad_axes(x.float(), _with_extra(amounts, extra), fill=-float("inf"))
    pooled, flat = MAX_POOLS[len(kernel)](padded, kernel, stride, 0, dilation, return_indices=True)
    place: list[Tensor] = []
    sizes = list(padded.shape[2:])
    for axis in range(len(kernel) - 1, -1, -1):
        place.insert(0, flat % sizes[axis] - amounts[axis][0])
        flat = flat // sizes[axis]
    axes = range(len(kernel)) if order == 0 else range(len(kernel) - 1, -1, -1)
    position = torch.zeros_like(place[0])
    for axis in axes:
        position = position * x.shape[2 + axis] + place[axis]
    images = torch.arange(x.shape[0] * x.shape[1]).reshape(x.shape[0], x.shape[1], *[1] * len(kernel))
    return pooled.to(x.dtype), position + images * x.shape[2:].numel()


def max_unpool(
    x: Tensor,
    indices: Tensor,
    output_shape: Numbers | None = None,
    *,
    kernel_shape: Any,
    strides: Any = None,
    pads: Any = None,
) -> Tensor:
    """Put maxima back where they were; zeros elsewhere. `indices` count in the unpooled tensor without output_shape."""
    rank = len(kernel_shape)
    stride, padding = defaults(strides, rank), defaults(pads, 2 * rank, 0)
    natural = [
        (n - 1) * s - padding[i] - padding[rank + i] + k
        for i, (n, s, k) in enumerate(zip(x.shape[2:], stride, kernel_shape, strict=True))
    ]
    plain = torch.zeros(x.shape[0] * x.shape[1] * _product(natural), dtype=x.dtype)
    filled = plain.scatter(0, indices.reshape(-1), x.reshape(-1)).reshape(*x.shape[:2], *natural)
    if output_shape is None:
        return filled
    missing = [int(w) - n for w, n in zip(output_shape[2:], natural, strict=True)]
    return pad_axes(filled, [(0, 0), (0, 0), *((0, m) for m in missing)])


def _product(sizes: list[int]) -> int:
    result = 1
    for n in sizes:
        result *= n
    return result


def average_pool(
    x: Tensor,
    *,
    kernel_shape: Any,
    strides: Any = None,
    dilations: Any = None,
    pads: Any = None,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
) -> Tensor:
    """Mean of each window; padding counts only if asked to (what ceil_mode adds never does)."""
    kernel = list(kernel_shape)
    stride, dilation, amounts, extra = windows(x, kernel, strides, dilations, pads, auto_pad, ceil_mode)
    if set(dilation) == {1} and _is_plain(amounts, extra, kernel):
        padding = [a for a, _ in amounts]
        return AVERAGE_POOLS[len(kernel)](x, kernel, stride, padding, False, bool(count_include_pad))
    sums = _window_sums(pad_axes(x, _with_extra(amounts, extra)), kernel, stride, dilation)
    return sums / _counts(x, kernel, stride, dilation, amounts, extra, bool(count_include_pad)).to(x.dtype)


def _counts(
    x: Tensor,
    kernel: list[int],
    stride: list[int],
    dilation: list[int],
    amounts: Pairs,
    extra: list[Any],
    all_pads: bool,
) -> Tensor:
    """How many elements of each window are data (or padding that counts)."""
    ones = torch.ones(1, 1, *x.shape[2:])
    counted = pad_axes(ones, [(0, 0), (0, 0), *amounts], fill=1.0 if all_pads else 0.0)
    uncounted: Pairs = [(0, 0), (0, 0)]
    uncounted += [(0, e) for e in extra]
    return _window_sums(pad_axes(counted, uncounted), kernel, stride, dilation)


def _window_sums(x: Tensor, kernel: list[int], stride: list[int], dilation: list[int]) -> Tensor:
    """Sum over windows, one axis after the other."""
    for axis, (k, s, d) in enumerate(zip(kernel, stride, dilation, strict=True), start=2):
        outputs = (x.shape[axis] - d * (k - 1) - 1) // s + 1
        taps = [x.narrow(axis, tap * d, (outputs - 1) * s + 1) for tap in range(k)]
        cuts = (slice(None),) * axis + (slice(None, None, s),)
        x = torch.stack([tap[cuts] for tap in taps]).sum(0)
    return x


def lp_pool(
    x: Tensor,
    *,
    kernel_shape: Any,
    strides: Any = None,
    dilations: Any = None,
    pads: Any = None,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    p: int = 2,
) -> Tensor:
    """p-norm of each window."""
    kernel = list(kernel_shape)
    stride, dilation, amounts, extra = windows(x, kernel, strides, dilations, pads, auto_pad, ceil_mode)
    powers = pad_axes(x.abs() ** p, _with_extra(amounts, extra))
    return _window_sums(powers, kernel, stride, dilation) ** (1.0 / p)


def global_average_pool(x: Tensor) -> Tensor:
    """Mean over all spatial axes, kept as size 1."""
    rank = x.dim() - 2
    if rank in ADAPTIVE_POOLS:
        return ADAPTIVE_POOLS[rank](x, 1)
    return x.mean(tuple(range(2, x.dim())), keepdim=True)


def global_max_pool(x: Tensor) -> Tensor:
    """Maximum over all spatial axes, kept as size 1."""
    rank = x.dim() - 2
    return ADAPTIVE_MAX[rank](x, 1) if rank in ADAPTIVE_MAX else x.amax(tuple(range(2, x.dim())), keepdim=True)


def global_lp_pool(x: Tensor, p: int = 2) -> Tensor:
    """p-norm over all spatial axes, kept as size 1."""
    return torch.linalg.vector_norm(x, ord=p, dim=tuple(range(2, x.dim())), keepdim=True)


OPERATORS: Operators = {
    "MaxPool": Operator(max_pool, counts_outputs=True),
    "MaxUnpool": Operator(max_unpool, numbers=(2,)),
    "AveragePool": Operator(average_pool),
    "LpPool": Operator(lp_pool),
    "GlobalAveragePool": Operator(global_average_pool),
    "GlobalMaxPool": Operator(global_max_pool),
    "GlobalLpPool": Operator(global_lp_pool),
}
