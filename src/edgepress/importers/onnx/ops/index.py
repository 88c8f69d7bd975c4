"""Gather and scatter, one-hot, selection by condition, non-zero positions."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgepress.importers.onnx.entry import Operator, Operators
from edgepress.importers.onnx.ops import arithmetic as on
from edgepress.importers.onnx.values import Numbers, ensure_affordable


def gather(data: Tensor, indices: Tensor | Numbers, axis: int = 0) -> Tensor:
    """Pick slices along an axis; rows of a float matrix are an embedding."""
    axis = axis % data.dim()
    if not isinstance(indices, Tensor):
        return gather_known(data, indices, axis)
    if axis == 0 and data.dim() == 2 and data.dtype.is_floating_point and indices.dim() >= 1:
        return F.embedding(wrapped(indices, data.shape[0]), data)
    flat = torch.index_select(data, axis, wrapped(indices, data.shape[axis]).reshape(-1))
    return flat.reshape(*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])


def gather_known(data: Tensor, indices: Numbers, axis: int) -> Tensor:
    """Pick slices at known positions: one is a select, neighbours are a slice."""
    if on.has_symbols(indices):
        return torch.stack([data.select(axis, n) for n in indices.flat], axis).reshape(
            *data.shape[:axis], *indices.shape, *data.shape[axis + 1 :]
        )
    if indices.ndim == 0:
        return data.select(axis, int(indices))
    positions = indices.astype(np.int64).reshape(-1)
    if positions.size and np.array_equal(positions, positions[0] + np.arange(positions.size)) and positions[0] >= 0:
        picked = data.narrow(axis, int(positions[0]), positions.size)
    else:
        positions = np.where(positions < 0, positions + int(data.shape[axis]), positions)
        picked = torch.index_select(data, axis, torch.from_numpy(positions))
    return picked.reshape(*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])


def wrapped(indices: Tensor, length: int) -> Tensor:
    """Negative indices count from the end."""
    indices = indices.to(torch.int64)
    return torch.where(indices < 0, indices + length, indices)


def gather_elements(data: Tensor, indices: Tensor, axis: int = 0) -> Tensor:
    """Pick single elements along an axis."""
    return torch.gather(data, axis, wrapped(indices, data.shape[axis]))


def gather_nd(data: Tensor, indices: Tensor, batch_dims: int = 0) -> Tensor:
    """Pick slices by index tuples in the last axis of `indices`."""
    depth = indices.shape[-1]
    parts = [wrapped(indices[..., i], data.shape[batch_dims + i]) for i in range(depth)]
    return data[(*_batch_positions(indices, batch_dims), *parts)]


def _batch_positions(indices: Tensor, batch_dims: int) -> list[Tensor]:
    """Positions along shared leading axes, shaped to broadcast with `indices[..., i]`."""
    rank = indices.dim() - 1
    positions = []
    for axis in range(batch_dims):
        shape = [1] * rank
        shape[axis] = -1
        positions.append(torch.arange(indices.shape[axis]).reshape(shape))
    return positions


def scatter_elements(data: Tensor, indices: Tensor, updates: Tensor, axis: int = 0, reduction: str = "none") -> Tensor:
    """Write single elements along an axis."""
    where = wrapped(indices, data.shape[axis])
    if reduction == "none":
        return data.scatter(axis, where, updates)
    return data.scatter_reduce(axis, where, updates, reduce=REDUCTIONS[reduction], include_self=True)


REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def scatter_nd(data: Tensor, indices: Tensor, updates: Tensor, reduction: str = "none") -> Tensor:
    """Write slices at index tuples."""
    depth = indices.shape[-1]
    if reduction in ("none", "add"):
        parts = tuple(wrapped(indices[..., i], data.shape[i]) for i in range(depth))
        return data.index_put(parts, updates.to(data.dtype), accumulate=reduction == "add")
    return _scatter_nd_reduce(data, indices, updates, REDUCTIONS[reduction])


def _scatter_nd_reduce(data: Tensor, indices: Tensor, updates: Tensor, reduction: str) -> Tensor:
    """By flat row number: (rows, rest) with one row per index tuple."""
    depth = indices.shape[-1]
    row = torch.zeros(indices.shape[:-1], dtype=torch.int64)
    for i in range(depth):
        row = row * data.shape[i] + wrapped(indices[..., i], data.shape[i])
    rest = data.shape[depth:].numel()
    rows, values = data.reshape(-1, rest), updates.reshape(-1, rest)
    positions = row.reshape(-1, 1).expand_as(values)
    return rows.scatter_reduce(0, positions, values, reduce=reduction, include_self=True).reshape(data.shape)


def one_hot(indices: Tensor, depth: Numbers, values: Tensor, axis: int = -1) -> Tensor:
    """values[1] where the position along a new axis is the index, else values[0]."""
    length = int(depth.reshape(-1)[0])
    ensure_affordable([*indices.shape, length], values.dtype)
    wrapped_indices = torch.remainder(indices, length).unsqueeze(axis)
    out_of_range = ((indices < -length) | (indices >= length)).unsqueeze(axis)
    shape = [1] * wrapped_indices.dim()
    shape[axis] = length
    hot = (wrapped_indices == torch.arange(length).reshape(shape)) & ~out_of_range
    return torch.where(hot, values[1], values[0])


def compress(data: Tensor, condition: Tensor, axis: int | None = None) -> Tensor:
    """Keep the slices where the condition holds."""
    positions = torch.nonzero(condition).reshape(-1)
    if axis is None:
        return torch.index_select(data.reshape(-1), 0, positions)
    return torch.index_select(data, axis, positions)


def non_zero(x: Tensor) -> Tensor:
    """Positions of non-zero elements: (rank, count)."""
    return torch.nonzero(x).t()


def unique(x: Tensor, axis: int | None = None, sorted: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Different values or slices, where each is first, where each element went, how often each occurs."""
    held = x.reshape(-1) if axis is None else x
    dim = 0 if axis is None else axis
    values, inverse, counts = torch.unique(held, sorted=True, return_inverse=True, return_counts=True, dim=dim)
    positions = torch.arange(inverse.numel())
    first = torch.full((counts.numel(),), inverse.numel()).scatter_reduce(0, inverse, positions, "amin")
    if sorted:
        return values, first, inverse, counts
    order = torch.argsort(first)
    rank = torch.empty_like(order).scatter(0, order, torch.arange(order.numel()))
    return values.index_select(dim, order), first[order], rank[inverse], counts[order]


def reverse_sequence(x: Tensor, lengths: Tensor, batch_axis: int = 1, time_axis: int = 0) -> Tensor:
    """Turn the first `lengths[i]` steps of each sequence around."""
    steps = torch.arange(x.shape[time_axis])
    length = lengths.to(torch.int64)[:, None]
    source = torch.where(steps < length, length - 1 - steps, steps)  # (batch, time)
    if batch_axis > time_axis:
        source = source.t()
    shape = [1] * x.dim()
    shape[batch_axis], shape[time_axis] = x.shape[batch_axis], x.shape[time_axis]
    return torch.gather(x, time_axis, source.reshape(shape).expand_as(x))


def tensor_scatter(
    cache: Tensor, update: Tensor, positions: Tensor | None = None, axis: int = -2, mode: str = "linear"
) -> Tensor:
    """Write an update into a cache along an axis, from `positions[batch]` on; circular wraps around."""
    axis = axis % cache.dim()
    start = torch.zeros(cache.shape[0], dtype=torch.int64) if positions is None else positions
    steps = start[:, None] + torch.arange(update.shape[axis])
    if mode == "circular":
        steps = steps % cache.shape[axis]
    shape = [1] * cache.dim()
    shape[0], shape[axis] = steps.shape
    return cache.scatter(axis, steps.reshape(shape).expand_as(update), update)


def array_feature_extractor(x: Tensor, indices: Tensor) -> Tensor:
    """Columns of the last axis (ai.onnx.ml)."""
    picked = torch.index_select(x, -1, indices.reshape(-1))
    return picked.reshape(1, -1) if x.dim() == 1 else picked


OPERATORS: Operators = {
    "Gather": Operator(gather, on_numbers=on.gather, known=(1,), weights=(0,)),
    "GatherElements": Operator(gather_elements),
    "GatherND": Operator(gather_nd),
    "Scatter": Operator(scatter_elements),
    "ScatterElements": Operator(scatter_elements),
    "ScatterND": Operator(scatter_nd),
    "OneHot": Operator(one_hot, numbers=(1,)),
    "Compress": Operator(compress),
    "NonZero": Operator(non_zero),
    "Unique": Operator(unique),
    "ReverseSequence": Operator(reverse_sequence),
    "TensorScatter": Operator(tensor_scatter),
    "ai.onnx.ml::ArrayFeatureExtractor": Operator(array_feature_extractor),
}
