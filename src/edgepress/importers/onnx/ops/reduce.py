"""Reductions, softmax and friends, arg-extremes and cumulative sums."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgepress.importers.onnx.entry import ByVersion, Operator, Operators
from edgepress.importers.onnx.ops import arithmetic as on
from edgepress.importers.onnx.values import Numbers

Reduction = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def reducing(reduction: Reduction, element: Callable[[Tensor], Tensor] | None = None) -> Callable[..., Tensor]:
    """The ONNX operator of a reduction.

    Args:
        reduction: (x, axes, keepdims) -> result.
        element: what the reduction does to a single element, for an empty list of axes with noop_with_empty_axes.
    """

    def reduce(x: Tensor, axes: Any = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
        wanted = () if axes is None else tuple(int(axis) % max(x.dim(), 1) for axis in np.atleast_1d(np.asarray(axes)))
        if not wanted and noop_with_empty_axes:
            return x if element is None else element(x)
        if x.dim() == 0:
            return x if element is None else element(x)
        return reduction(x, wanted or tuple(range(x.dim())), bool(keepdims))

    return reduce


def _sum(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    return torch.sum(x, axes, keepdim=keepdims, dtype=x.dtype)


def _mean(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    if not x.dtype.is_floating_point:
        return torch.mean(x.double(), axes, keepdim=keepdims).to(x.dtype)
    return torch.mean(x, axes, keepdim=keepdims)


def _maximum(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    if x.dtype == torch.bool:
        return _extreme(x.to(torch.uint8), axes, keepdims, torch.amax, _lowest).bool()
    return _extreme(x, axes, keepdims, torch.amax, _lowest)


def _minimum(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    if x.dtype == torch.bool:
        return _extreme(x.to(torch.uint8), axes, keepdims, torch.amin, _highest).bool()
    return _extreme(x, axes, keepdims, torch.amin, _highest)


def _extreme(x: Tensor, axes: tuple[int, ...], keepdims: bool, reduction: Any, fill: Any) -> Tensor:
    """torch has no extreme of nothing; ONNX has: the type's lowest or highest value."""
    if all(
        (isinstance(x.shape[axis], int) and x.shape[axis] > 0) or not isinstance(x.shape[axis], int) for axis in axes
    ):
        return reduction(x, axes, keepdim=keepdims)
    return torch.full_like(_sum(x, axes, keepdims), fill(x.dtype))


def _lowest(dtype: torch.dtype) -> float:
    return -float("inf") if dtype.is_floating_point else torch.iinfo(dtype).min


def _highest(dtype: torch.dtype) -> float:
    return float("inf") if dtype.is_floating_point else torch.iinfo(dtype).max


def _product(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = torch.prod(x, axis, keepdim=keepdims, dtype=x.dtype)
    return x


def _norm_1(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    return _sum(x.abs(), axes, keepdims)


def _norm_2(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    return torch.sqrt(_sum((x * x).float() if not x.dtype.is_floating_point else x * x, axes, keepdims)).to(x.dtype)


def _square_sum(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    return _sum(x * x, axes, keepdims)


def _log_sum(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    return torch.log(_sum(x, axes, keepdims))


def _log_sum_exp(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    return torch.logsumexp(x, axes, keepdim=keepdims)


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Softmax along one axis (opset 13 on)."""
    return torch.softmax(x, axis)


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Logarithm of softmax along one axis."""
    return torch.log_softmax(x, axis)


def hardmax(x: Tensor, axis: int = -1) -> Tensor:
    """1 at the first maximum along an axis, 0 elsewhere."""
    best = first_argmax(x, axis, keepdim=True)
    return torch.zeros_like(x).scatter(axis, best, 1.0)


def flattened(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Before opset 13 the axes from `axis` on count as one."""

    def compute(x: Tensor, axis: int = 1) -> Tensor:
        axis = axis % x.dim()
        if axis == x.dim() - 1:
            return function(x, -1)
        if all(isinstance(n, int) and n == 1 for n in x.shape[axis + 1 :]):
            return function(x, axis)
        return function(x.flatten(axis), -1).reshape(x.shape)

    return compute


def first_argmax(x: Tensor, axis: int, keepdim: bool) -> Tensor:
    """Index of the first maximum, which is what ONNX asks for where several are equal."""
    return torch.argmax(x, axis, keepdim=keepdim)


def arg_extreme(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """ArgMax or ArgMin, first or last of equals."""

    def compute(x: Tensor, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
        if not select_last_index:
            return function(x, axis, keepdim=bool(keepdims))
        return x.shape[axis] - 1 - function(x.flip(axis), axis, keepdim=bool(keepdims))

    return compute


def cumulative(function: Callable[..., Tensor], start: int) -> Callable[..., Tensor]:
    """CumSum or CumProd: inclusive or exclusive, forwards or backwards."""

    def compute(x: Tensor, axis: Numbers, exclusive: int = 0, reverse: int = 0) -> Tensor:
        dim = int(axis.reshape(-1)[0])
        x = x.flip(dim) if reverse else x
        result = function(x, dim).to(x.dtype)
        if exclusive:
            first = torch.full_like(result.narrow(dim, 0, 1), start)
            result = torch.cat([first, result.narrow(dim, 0, x.shape[dim] - 1)], dim)
        return result.flip(dim) if reverse else result

    return compute


def top_k(x: Tensor, k: Numbers, axis: int = -1, largest: int = 1, sorted: int = 1) -> tuple[Tensor, Tensor]:
    """The k largest or smallest along an axis; of equals the one with the lower index comes first."""
    count = k.reshape(-1)[0]
    held = x.to(torch.int64) if x.dtype in (torch.uint16, torch.uint32, torch.uint64) else x
    values, indices = torch.sort(held, dim=axis, descending=bool(largest), stable=True)
    return values.narrow(axis, 0, count).to(x.dtype), indices.narrow(axis, 0, count)


def top_k_attribute(x: Tensor, k: int, axis: int = -1) -> tuple[Tensor, Tensor]:
    """TopK before opset 10."""
    return top_k(x, on.array(k), axis)


def lp_normalize(x: Tensor, axis: int = -1, p: int = 2) -> Tensor:
    """x divided by its p-norm along an axis; 0 stays 0."""
    norm = torch.linalg.vector_norm(x, ord=p, dim=axis, keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / norm)


def _versions(function: Callable[..., Tensor], since: int, on_numbers: Any = None) -> ByVersion:
    """Axes are an attribute at first, an input from `since` on."""
    return {
        1: Operator(function, on_numbers=on_numbers),
        since: Operator(function, numbers=(1,), on_numbers=on_numbers),
    }


def _by_axis(function: Callable[..., Tensor]) -> ByVersion:
    return {1: Operator(flattened(function)), 13: Operator(function)}


OPERATORS: Operators = {
    "ReduceSum": _versions(reducing(_sum), 13, on.reduce_sum),
    "ReduceMean": _versions(reducing(_mean), 18),
    "ReduceMax": _versions(reducing(_maximum), 18),
    "ReduceMin": _versions(reducing(_minimum), 18),
    "ReduceProd": _versions(reducing(_product), 18, on.reduce_product),
    "ReduceL1": _versions(reducing(_norm_1, torch.abs), 18),
    "ReduceL2": _versions(reducing(_norm_2, torch.abs), 18),
    "ReduceSumSquare": _versions(reducing(_square_sum, torch.square), 18),
    "ReduceLogSum": _versions(reducing(_log_sum, torch.log), 18),
    "ReduceLogSumExp": _versions(reducing(_log_sum_exp), 18),
    "Softmax": _by_axis(softmax),
    "LogSoftmax": _by_axis(log_softmax),
    "Hardmax": _by_axis(hardmax),
    "ArgMax": Operator(arg_extreme(first_argmax)),
    "ArgMin": Operator(arg_extreme(torch.argmin)),
    "CumSum": Operator(cumulative(torch.cumsum, 0), numbers=(1,)),
    "CumProd": Operator(cumulative(torch.cumprod, 1), numbers=(1,)),
    "TopK": {1: Operator(top_k_attribute), 10: Operator(top_k, numbers=(1,))},
    "LpNormalization": Operator(lp_normalize),
}
