"""Shapes and layout: reshape, slice, concatenate, pad, tile, cast."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true

from edgepress.importers.onnx.entry import Operator, Operators
from edgepress.importers.onnx.ops import arithmetic as on
from edgepress.importers.onnx.ops.casts import OPERATORS as CASTS
from edgepress.importers.onnx.values import (
    Constant,
    Numbers,
    Unsupported,
    ensure_affordable,
    is_symbolic,
    tidy,
    torch_dtype,
)


def sizes_of(numbers: Numbers) -> list[Any]:
    """A shape as list of ints and symbols."""
    return [n if is_symbolic(n) else int(n) for n in np.asarray(numbers).reshape(-1)]


def shape(x: Any, start: int = 0, end: int | None = None) -> Numbers:
    """The sizes of x, from axis `start` up to `end`."""
    return tidy(on.objects(list(x.shape)[start:end])) if x.shape[start:end] else np.zeros(0, dtype=np.int64)


def size(x: Any) -> Numbers:
    """The number of elements of x."""
    return tidy(np.asarray(on.objects([x.numel() if isinstance(x, Tensor) else x.size])).reshape(()))


def reshape(x: Tensor, shape: Numbers, allowzero: int = 0, new_batch: bool = False) -> Tensor:
    """Reshape; 0 keeps a size, -1 is worked out."""
    sizes = sizes_of(shape)
    if not allowzero:
        sizes = [x.shape[i] if not is_symbolic(n) and n == 0 else n for i, n in enumerate(sizes)]
    elif 0 in sizes and -1 in sizes:
        raise Unsupported("0 and -1 in one shape", found=str(sizes), expected="one of them with allowzero=1")
    if new_batch:
        sizes = _batched_sizes(x, sizes)
    return x.reshape(sizes)


def _batched_sizes(x: Tensor, sizes: list[Any]) -> list[Any]:
    """The target of a network written for batch 1, with the batch of x in its first size.

    A leading 1 is the batch. Without -1, a first size that is short of a factor is a batch merged with what follows
    (channel shuffles reshape (1, C, H, W) to (C / 2, 2, H W)).
    """
    if not sizes or any(map(is_symbolic, sizes)):
        return sizes
    if sizes[0] == 1 and x.dim() and len(sizes) > 1:
        return [x.shape[0], *sizes[1:]]
    if -1 in sizes:
        return sizes
    made = int(np.prod(sizes))
    if made == 0 or statically_known_true(x.numel() == made):
        return sizes
    return [sizes[0] * (x.numel() // made), *sizes[1:]]


def reshape_attribute(x: Tensor, shape: Any) -> Tensor:
    """Reshape before opset 5."""
    return reshape(x, np.asarray(shape))


def flatten(x: Tensor, axis: int = 1) -> Tensor:
    """To two axes: those before `axis` and the others."""
    axis = axis % x.dim() if x.dim() and axis != x.dim() else axis
    if axis == 0:
        return x.reshape(1, -1)
    if axis == 1:
        return torch.flatten(x, 1) if x.dim() > 1 else x.reshape(-1, 1)
    rows = 1
    for length in x.shape[:axis]:
        rows = rows * length
    return x.reshape(rows, -1) if x.numel() else x.reshape(rows, int(np.prod(x.shape[axis:])))


def transpose(x: Tensor, perm: Any = None) -> Tensor:
    """Permute axes; without `perm`, reverse them."""
    return x.permute(tuple(range(x.dim()))[::-1] if perm is None else tuple(perm))


def unsqueeze(x: Tensor, axes: Any) -> Tensor:
    """Insert axes of size 1 at positions of the result."""
    given = np.atleast_1d(np.asarray(axes))
    rank = x.dim() + given.size
    wanted = sorted(int(axis) % rank for axis in given)
    if len(set(wanted)) != len(wanted):
        raise ValueError(f"axes {wanted} repeat")
    for axis in wanted:
        x = x.unsqueeze(axis)
    return x


def squeeze(x: Tensor, axes: Any = None) -> Tensor:
    """Drop axes of size 1."""
    if axes is None:
        return x.squeeze()
    wanted = tuple(int(axis) % max(x.dim(), 1) for axis in np.atleast_1d(np.asarray(axes)))
    wrong = [axis for axis in wanted if not is_symbolic(x.shape[axis]) and x.shape[axis] != 1]
    if wrong:
        raise ValueError(f"axes {wrong} of shape {tuple(x.shape)} are not of size 1")
    return x.squeeze(wanted)


def concat(*parts: Tensor, axis: int, new_batch: bool = False) -> Tensor:
    """Join along an axis."""
    if len(parts) == 1:
        return parts[0]
    if new_batch and axis % parts[0].dim() != 0:
        parts = _batched_parts(parts)
    return torch.cat(parts, dim=axis)


def _batched_parts(parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Constants of batch 1 (class tokens) repeated for a larger batch."""
    batch = next((part.shape[0] for part in parts if not statically_known_true(part.shape[0] == 1)), None)
    if batch is None:
        return parts
    return tuple(
        part.expand(batch, *part.shape[1:]) if statically_known_true(part.shape[0] == 1) else part for part in parts
    )


def split_tensor(x: Tensor, sizes: Numbers | None = None, *, axis: int = 0, outputs: int, num_outputs: int = 0) -> Any:
    """Cut along an axis into parts of the given sizes, or into equal ones (the last may be smaller)."""
    if sizes is not None and sizes.size:
        return tuple(torch.split(x, sizes_of(sizes), dim=axis))
    count = num_outputs or outputs
    length = x.shape[axis]
    part = -(-length // count)
    return tuple(torch.split(x, [part] * (count - 1) + [length - part * (count - 1)], dim=axis))


def split_attribute(x: Tensor, *, split: Any = None, axis: int = 0, outputs: int) -> Any:
    """Split before opset 13."""
    return split_tensor(x, None if split is None else np.asarray(split), axis=axis, outputs=outputs)


def slice_tensor(
    x: Tensor, starts: Numbers, ends: Numbers, axes: Numbers | None = None, steps: Numbers | None = None
) -> Tensor:
    """Cut along axes, with steps of either sign."""
    wanted = list(range(starts.size)) if axes is None else sizes_of(axes)
    strides = [1] * starts.size if steps is None else sizes_of(steps)
    for axis, start, end, step in zip(wanted, sizes_of(starts), sizes_of(ends), strides, strict=True):
        x = _slice_axis(x, axis % x.dim(), start, end, step)
    return x


def _slice_axis(x: Tensor, axis: int, start: Any, end: Any, step: int) -> Tensor:
    if step == 0:
        raise ValueError("a slice of step 0")
    if step < 0:
        return _slice_backwards(x, axis, start, end, step)
    last = None if not is_symbolic(end) and end >= 2**31 - 1 else end
    cuts = [slice(None)] * axis + [slice(start, last, step)]
    return x[tuple(cuts)]


def _slice_backwards(x: Tensor, axis: int, start: int, end: int, step: int) -> Tensor:
    """torch has no negative steps: flip, then cut the mirrored range."""
    length = x.shape[axis]
    first = min(start + length if start < 0 else start, length - 1)
    last = max(end + length if end < 0 else end, -1)
    cuts = [slice(None)] * axis + [slice(length - 1 - first, max(length - 1 - last, length - 1 - first), -step)]
    return x.flip(axis)[tuple(cuts)]


def slice_attributes(x: Tensor, starts: Any, ends: Any, axes: Any = None) -> Tensor:
    """Slice before opset 10."""
    return slice_tensor(x, np.asarray(starts), np.asarray(ends), None if axes is None else np.asarray(axes))


def expand(x: Tensor, shape: Numbers) -> Tensor:
    """Broadcast both ways: a size of 1 on either side takes the other's."""
    sizes = sizes_of(shape)
    rank = max(x.dim(), len(sizes))
    have = [1] * (rank - x.dim()) + list(x.shape)
    want = [1] * (rank - len(sizes)) + sizes
    target = [h if not is_symbolic(w) and w == 1 else w for h, w in zip(have, want, strict=True)]
    ensure_affordable(target, x.dtype)
    return x.expand(target)


def tile(x: Tensor, repeats: Numbers) -> Tensor:
    """Repeat along each axis."""
    counts = sizes_of(repeats)
    ensure_affordable([n * c for n, c in zip(x.shape, counts, strict=True)], x.dtype)
    return x.repeat(counts)


PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def pad(
    x: Tensor, pads: Numbers, value: Numbers | None = None, axes: Numbers | None = None, *, mode: str = "constant"
) -> Tensor:
    """Pad (or crop, where negative) axes: all begins, then all ends."""
    flat = sizes_of(pads)
    wanted = range(x.dim()) if axes is None else [axis % x.dim() for axis in sizes_of(axes)]
    half = len(flat) // 2
    amounts: list[tuple[Any, Any]] = [(0, 0)] * x.dim()
    for position, axis in enumerate(wanted):
        amounts[axis] = (flat[position], flat[half + position])
    fill = 0 if value is None or value.size == 0 else value.reshape(-1)[0].item()
    return pad_axes(x, amounts, mode, fill)


def pad_axes(x: Tensor, amounts: list[tuple[Any, Any]], mode: str = "constant", fill: float = 0) -> Tensor:
    """Pad each axis by (before, after)."""
    ensure_affordable([n + a + b for n, (a, b) in zip(x.shape, amounts, strict=True)], x.dtype)
    last = max((axis for axis, pair in enumerate(amounts) if _is_padded(pair)), default=None)
    if last is None:
        return x
    first = min(axis for axis, pair in enumerate(amounts) if _is_padded(pair))
    flat = [amount for pair in reversed(amounts[first:]) for amount in pair]
    if mode == "constant":
        return F.pad(x, flat, value=fill)
    if not x.dtype.is_floating_point or mode == "wrap" or x.dim() - first > 3:
        return _pad_by_index(x, amounts, mode)
    held = x if first >= 2 and x.dim() <= 5 else x.reshape(1, -1, *x.shape[first:])  # torch wants two axes in front
    padded = F.pad(held, flat, mode=PAD_MODES[mode])
    return padded if held is x else padded.reshape(*x.shape[:first], *padded.shape[2:])


def _is_padded(pair: tuple[Any, Any]) -> bool:
    return any(is_symbolic(n) or n != 0 for n in pair)


def _pad_by_index(x: Tensor, amounts: list[tuple[Any, Any]], mode: str) -> Tensor:
    for axis, (before, after) in enumerate(amounts):
        if not before and not after:
            continue
        positions = torch.arange(-before, x.shape[axis] + after)
        x = x.index_select(axis, _source_positions(positions, x.shape[axis], mode))
    return x


def _source_positions(positions: Tensor, length: int, mode: str) -> Tensor:
    if mode == "wrap":
        return positions % length
    if mode == "edge":
        return positions.clamp(0, length - 1)
    if mode == "reflect":
        if length == 1:
            return torch.zeros_like(positions)
        folded = positions.abs() % (2 * (length - 1))
        return torch.minimum(folded, 2 * (length - 1) - folded)
    raise Unsupported("padding", found=mode, expected=", ".join(PAD_MODES))


def pad_attributes(
    x: Tensor, pads: Any = None, mode: str = "constant", value: float = 0.0, paddings: Any = None
) -> Tensor:
    """Pad before opset 11."""
    return pad(x, np.asarray(pads if pads is not None else paddings), np.asarray(value), mode=mode)


def constant_of_shape(shape: Numbers, value: Constant | None = None) -> Tensor:
    """A tensor of one value."""
    sizes = sizes_of(shape)
    dtype = torch.float32 if value is None else value.tensor.dtype
    ensure_affordable(sizes, dtype)
    return torch.full(sizes, 0.0 if value is None else value.numbers.flat[0].item(), dtype=dtype)


def arange(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    """start, start + delta, ... below limit."""
    low, high, step = (a.reshape(()).item() for a in (start, limit, delta))
    if not any(map(is_symbolic, (low, high, step))):
        ensure_affordable([max(0, int((high - low) / step) + 1)], start.dtype)
    if start.dtype in (torch.float16, torch.bfloat16):
        return torch.arange(low, high, step, dtype=torch.float32).to(start.dtype)
    return torch.arange(low, high, step, dtype=start.dtype)


def arange_numbers(start: Numbers, limit: Numbers, delta: Numbers) -> Any:
    """As `arange`; a symbolic end gives a tensor of symbolic length."""
    known = on.range_numbers(start, limit, delta)
    if known is not NotImplemented or on.has_symbols(delta):
        return known
    low, high, step = (a.reshape(-1)[0] for a in (start, limit, delta))
    return torch.arange(low, high, int(step)) if on.has_symbols(start, limit) else NotImplemented


def eye_like(x: Tensor, dtype: int | None = None, k: int = 0) -> Tensor:
    """Ones on a diagonal."""
    rows, columns = x.shape
    target = x.dtype if dtype is None else torch_dtype(dtype)
    positions = torch.arange(rows)[:, None] + k == torch.arange(columns)[None, :]
    return positions.to(target)


def depth_to_space(x: Tensor, blocksize: int, mode: str = "DCR") -> Tensor:
    """Move channels into blocks of pixels; CRD is torch's pixel shuffle."""
    if mode == "CRD":
        return F.pixel_shuffle(x, blocksize)
    n, c, h, w = x.shape
    y = x.reshape(n, blocksize, blocksize, c // blocksize**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return y.reshape(n, c // blocksize**2, h * blocksize, w * blocksize)


def space_to_depth(x: Tensor, blocksize: int, mode: str = "DCR") -> Tensor:
    """Move blocks of pixels into channels."""
    if mode == "CRD":
        return F.pixel_unshuffle(x, blocksize)
    n, c, h, w = x.shape
    y = x.reshape(n, c, h // blocksize, blocksize, w // blocksize, blocksize).permute(0, 3, 5, 1, 2, 4)
    return y.reshape(n, c * blocksize**2, h // blocksize, w // blocksize)


def trilu(x: Tensor, k: Numbers | None = None, upper: int = 1) -> Tensor:
    """Upper or lower triangle."""
    diagonal = 0 if k is None else int(k.reshape(-1)[0])
    return torch.triu(x, diagonal) if upper else torch.tril(x, diagonal)


def center_crop_pad(x: Tensor, shape: Numbers, axes: Any = None) -> Tensor:
    """Crop or zero-pad around the centre."""
    wanted = range(x.dim()) if axes is None else [axis % x.dim() for axis in axes]
    amounts: list[tuple[Any, Any]] = [(0, 0)] * x.dim()
    for axis, length in zip(wanted, sizes_of(shape), strict=True):
        missing = length - x.shape[axis]
        before = missing // 2 if missing > 0 else -(-missing // 2)
        amounts[axis] = (before, missing - before)
    return pad_axes(x, amounts)


def identity(x: Any) -> Any:
    """x."""
    return x


AXES_ATTRIBUTE_UNSQUEEZE = Operator(unsqueeze, on_numbers=on.unsqueeze_attribute)
AXES_ATTRIBUTE_SQUEEZE = Operator(squeeze, on_numbers=on.squeeze_attribute)

OPERATORS: Operators = {
    **CASTS,
    "Shape": Operator(shape, on_numbers=lambda x, start=0, end=None: np.asarray(x.shape[start:end], dtype=np.int64)),
    "Size": Operator(size, on_numbers=lambda x: np.asarray(x.size)),
    "Reshape": {
        1: Operator(reshape_attribute),
        5: Operator(reshape, numbers=(1,), on_numbers=on.reshape, adapts_batch=True),
    },
    "Flatten": Operator(flatten),
    "Transpose": Operator(transpose, on_numbers=on.transpose),
    "Unsqueeze": {
        1: AXES_ATTRIBUTE_UNSQUEEZE,
        13: Operator(unsqueeze, numbers=(1,), on_numbers=on.unsqueeze),
    },
    "Squeeze": {1: AXES_ATTRIBUTE_SQUEEZE, 13: Operator(squeeze, numbers=(1,), on_numbers=on.squeeze)},
    "Concat": Operator(concat, on_numbers=on.concat, adapts_batch=True),
    "Split": {
        1: Operator(split_attribute, counts_outputs=True, on_numbers=on.split_attribute),
        13: Operator(split_tensor, numbers=(1,), counts_outputs=True, on_numbers=on.split),
    },
    "Slice": {
        1: Operator(slice_attributes, on_numbers=on.slice_attributes),
        10: Operator(slice_tensor, numbers=(1, 2, 3, 4), on_numbers=on.slice_numbers),
    },
    "Expand": Operator(expand, numbers=(1,), on_numbers=on.expand),
    "Tile": Operator(tile, numbers=(1,)),
    "Pad": {1: Operator(pad_attributes), 11: Operator(pad, numbers=(1, 2, 3))},
    "ConstantOfShape": Operator(constant_of_shape, numbers=(0,), on_numbers=on.constant_of_shape),
    "Range": Operator(arange, on_numbers=arange_numbers),
    "EyeLike": Operator(eye_like),
    "DepthToSpace": Operator(depth_to_space),
    "SpaceToDepth": Operator(space_to_depth),
    "Trilu": Operator(trilu, numbers=(1,)),
    "CenterCropPad": Operator(center_crop_pad, numbers=(1,)),
    "Identity": Operator(identity, on_numbers=identity),
}
