"""Shape arithmetic: operators on numbers known while tracing, some of which may be symbolic sizes.

Arrays of dtype object hold `SymInt`s; numpy then calls Python's operators element by element. A function that would
have to ask a symbol for its value returns `NotImplemented` instead, and the step runs on tensors.
"""

import math
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch.fx.experimental.symbolic_shapes import statically_known_true

from edgepress.importers.onnx.values import MAX_NUMBERS, Constant, Numbers, is_symbolic

FLOAT_TYPES = (1, 10, 11, 16)
INTEGER_TYPES = (2, 3, 5, 6, 7)
NUMPY_TYPES = {
    1: np.float32,
    2: np.uint8,
    3: np.int8,
    5: np.int16,
    6: np.int32,
    7: np.int64,
    9: np.bool_,
    10: np.float16,
    11: np.float64,
}


def array(value: Any) -> Numbers:
    """A number or nested list as array."""
    return np.asarray(value)


def objects(values: Any) -> Numbers:
    """A flat sequence of numbers, symbolic or not, as array."""
    flat = np.empty(len(values), dtype=object)
    flat[:] = list(values)
    return flat


def has_symbols(*arrays: Numbers) -> bool:
    """True if any element is symbolic."""
    return any(a.dtype == object and any(is_symbolic(n) for n in a.flat) for a in arrays)


def _each(function: Any, *arrays: Numbers) -> Numbers:
    """Apply a scalar function element by element, with broadcasting, keeping symbols."""
    broadcast = np.broadcast_arrays(*[a.astype(object) for a in arrays])
    flat = objects([function(*items) for items in zip(*(b.flat for b in broadcast), strict=True)])
    return flat.reshape(broadcast[0].shape)


def add(a: Numbers, b: Numbers) -> Numbers:
    """a + b."""
    return np.add(a, b)


def sub(a: Numbers, b: Numbers) -> Numbers:
    """a - b."""
    return np.subtract(a, b)


def mul(a: Numbers, b: Numbers) -> Numbers:
    """a * b."""
    return np.multiply(a, b)


def div(a: Numbers, b: Numbers) -> Any:
    """a / b, truncated for integers. Symbolic sizes are not negative, so flooring them is truncating."""
    if _is_float(a) or _is_float(b):
        return _each(lambda x, y: x / y, a, b) if has_symbols(a, b) else np.divide(a, b)
    if has_symbols(a, b):
        return _each(lambda x, y: x // y, a, b)
    if np.any(b == 0):
        return NotImplemented
    return np.trunc(np.divide(a, b)).astype(a.dtype) if a.dtype != object else _each(lambda x, y: x // y, a, b)


def _is_float(a: Numbers) -> bool:
    if a.dtype == object:
        return any(isinstance(n, float | torch.SymFloat) for n in a.flat)
    return np.issubdtype(a.dtype, np.floating)


def mod(a: Numbers, b: Numbers, fmod: int = 0) -> Any:
    """Remainder; C's kind is left to tensors."""
    return NotImplemented if fmod or (not has_symbols(b) and np.any(b == 0)) else np.mod(a, b)


def power(a: Numbers, b: Numbers) -> Any:
    """a ** b; symbols are left to tensors."""
    if has_symbols(a, b) or (not _is_float(a) and np.any(b < 0)):
        return NotImplemented
    return np.power(a, b).astype(a.dtype)


def negate(a: Numbers) -> Numbers:
    """-a."""
    return np.negative(a)


def absolute(a: Numbers) -> Any:
    """|a|; sizes are not negative."""
    return NotImplemented if has_symbols(a) else np.abs(a)


def minimum(*arrays: Numbers) -> Numbers:
    """Smallest, element by element."""
    return reduce(lambda a, b: _each(torch.sym_min, a, b) if has_symbols(a, b) else np.minimum(a, b), arrays)


def maximum(*arrays: Numbers) -> Numbers:
    """Largest, element by element."""
    return reduce(lambda a, b: _each(torch.sym_max, a, b) if has_symbols(a, b) else np.maximum(a, b), arrays)


def square_root(a: Numbers) -> Numbers:
    """Square root."""
    return _each(torch.sym_sqrt, a) if has_symbols(a) else np.sqrt(a)


def floor(a: Numbers) -> Any:
    """Round down, still a floating-point number."""
    return _each(lambda x: torch.sym_float(math.floor(x)), a) if has_symbols(a) else np.floor(a)


def ceil(a: Numbers) -> Any:
    """Round up, still a floating-point number."""
    return _each(lambda x: torch.sym_float(math.ceil(x)), a) if has_symbols(a) else np.ceil(a)


def logical_and(a: Numbers, b: Numbers) -> Numbers:
    """a and b."""
    return _each(lambda x, y: x & y, a, b) if has_symbols(a, b) else np.logical_and(a, b)


def logical_or(a: Numbers, b: Numbers) -> Numbers:
    """a or b."""
    return _each(lambda x, y: x | y, a, b) if has_symbols(a, b) else np.logical_or(a, b)


def logical_not(a: Numbers) -> Numbers:
    """not a."""
    return _each(torch.sym_not, a) if has_symbols(a) else np.logical_not(a)


def _decided(comparison: Any) -> Any:
    """A comparison that holds for every size, or for none, is no longer a symbol: no size is -1."""
    if not is_symbolic(comparison):
        return comparison
    if statically_known_true(comparison):
        return True
    return False if statically_known_true(torch.sym_not(comparison)) else comparison


def equal(a: Numbers, b: Numbers) -> Numbers:
    """a == b."""
    return _each(lambda x, y: _decided(x == y), a, b) if has_symbols(a, b) else np.equal(a, b)


def less(a: Numbers, b: Numbers) -> Numbers:
    """a < b."""
    return _each(lambda x, y: _decided(x < y), a, b) if has_symbols(a, b) else np.less(a, b)


def less_or_equal(a: Numbers, b: Numbers) -> Numbers:
    """a <= b."""
    return _each(lambda x, y: _decided(x <= y), a, b) if has_symbols(a, b) else np.less_equal(a, b)


def greater(a: Numbers, b: Numbers) -> Numbers:
    """a > b."""
    return less(b, a)


def greater_or_equal(a: Numbers, b: Numbers) -> Numbers:
    """a >= b."""
    return less_or_equal(b, a)


def where(condition: Numbers, a: Numbers, b: Numbers) -> Numbers:
    """a where the condition holds, else b."""
    if not has_symbols(condition):
        return np.where(condition.astype(bool), a, b)
    return _each(_choose, condition, a, b)


def _choose(condition: Any, a: Any, b: Any) -> Any:
    if not is_symbolic(condition):
        return a if condition else b
    if type(a) is type(b):
        return torch.sym_ite(condition, a, b)
    first = torch.sym_ite(condition, 1, 0)  # torch takes no choice between a number and a symbol
    return first * a + (1 - first) * b


def cast(a: Numbers, to: int, **_: Any) -> Any:
    """Change the element type; symbolic sizes become symbolic floats or stay integers."""
    if has_symbols(a):
        return _cast_symbols(a, to)
    return np.asarray(a).astype(NUMPY_TYPES[to]) if to in NUMPY_TYPES and not _overflows(a, to) else NotImplemented


def _overflows(a: Numbers, to: int) -> bool:
    """Out-of-range casts differ between libraries: torch's are used."""
    if to not in INTEGER_TYPES or a.size == 0:
        return False
    info = np.iinfo(NUMPY_TYPES[to])
    return not bool(np.all(np.isfinite(a.astype(np.float64))) and a.min() >= info.min and a.max() <= info.max)


def _cast_symbols(a: Numbers, to: int) -> Any:
    if to in FLOAT_TYPES:
        return _each(lambda x: torch.sym_float(x) if is_symbolic(x) else float(x), a)
    if to in INTEGER_TYPES:
        return _each(lambda x: torch.sym_int(x) if is_symbolic(x) else int(x), a)
    # A symbolic truth is no number: compared with 0 it would count as another object, that is as true.
    return _each(lambda x: x if isinstance(x, torch.SymBool) else x != 0, a) if to == 9 else NotImplemented


def cast_like(a: Numbers, like: Numbers, **_: Any) -> Any:
    """Change the element type to that of another array."""
    if like.dtype == object:
        return NotImplemented
    types = {np.dtype(numpy_type): onnx_type for onnx_type, numpy_type in NUMPY_TYPES.items()}
    return cast(a, types[like.dtype]) if like.dtype in types else NotImplemented


def gather(data: Numbers, indices: Numbers, axis: int = 0) -> Any:
    """Pick along an axis."""
    return NotImplemented if has_symbols(indices) else np.take(data, indices.astype(np.int64), axis=axis)


def concat(*arrays: Numbers, axis: int) -> Numbers:
    """Join along an axis."""
    return np.concatenate(arrays, axis=axis)


def unsqueeze(data: Numbers, axes: Numbers | None = None, *, axes_attribute: Any = None) -> Numbers:
    """Insert axes of size 1."""
    wanted = axes_attribute if axes is None else [int(axis) for axis in axes.reshape(-1)]
    return np.expand_dims(data, tuple(wanted))


def squeeze(data: Numbers, axes: Numbers | None = None, *, axes_attribute: Any = None) -> Numbers:
    """Drop axes of size 1."""
    wanted = axes_attribute if axes is None else [int(axis) for axis in axes.reshape(-1)]
    return np.squeeze(data, None if wanted is None else tuple(wanted))


def unsqueeze_attribute(data: Numbers, axes: Any) -> Numbers:
    """Unsqueeze before opset 13."""
    return unsqueeze(data, axes_attribute=axes)


def squeeze_attribute(data: Numbers, axes: Any = None) -> Numbers:
    """Squeeze before opset 13."""
    return squeeze(data, axes_attribute=axes)


def slice_numbers(
    data: Numbers, starts: Numbers, ends: Numbers, axes: Numbers | None = None, steps: Numbers | None = None
) -> Any:
    """Cut along axes."""
    if has_symbols(starts, ends, *(a for a in (axes, steps) if a is not None)):
        return NotImplemented
    wanted = range(starts.size) if axes is None else axes.reshape(-1).tolist()
    strides = [1] * starts.size if steps is None else steps.reshape(-1).tolist()
    cuts = [slice(None)] * data.ndim
    for axis, start, end, step in zip(wanted, starts.tolist(), ends.tolist(), strides, strict=True):
        last = None if step < 0 and end < -data.shape[axis] else end
        cuts[axis] = slice(start, last, step)
    return data[tuple(cuts)]


def split(data: Numbers, sizes: Numbers | None = None, *, axis: int = 0, outputs: int, num_outputs: int = 0) -> Any:
    """Cut along an axis: optimizers gather a shape's sizes this way."""
    if sizes is not None and has_symbols(sizes):
        return NotImplemented
    count, length = num_outputs or outputs, data.shape[axis]
    part = -(-length // count)
    parts = [part] * (count - 1) if sizes is None or not sizes.size else [int(size) for size in sizes[:-1]]
    return tuple(np.split(data, np.cumsum(parts), axis=axis))


def split_attribute(data: Numbers, **attributes: Any) -> Any:
    """Split before opset 13."""
    sizes = attributes.pop("split", None)
    return split(data, None if sizes is None else array(sizes), **attributes)


def slice_attributes(data: Numbers, starts: Any, ends: Any, axes: Any = None) -> Any:
    """Slice before opset 10."""
    return slice_numbers(data, array(starts), array(ends), None if axes is None else array(axes))


def reshape(data: Numbers, shape: Numbers, allowzero: int = 0) -> Any:
    """Reshape to a known shape."""
    if has_symbols(shape):
        return NotImplemented
    sizes = [data.shape[i] if n == 0 and not allowzero else int(n) for i, n in enumerate(shape.reshape(-1))]
    return data.reshape(sizes)


def expand(data: Numbers, shape: Numbers) -> Any:
    """Broadcast to a known, small shape."""
    if has_symbols(shape) or math.prod(int(n) for n in shape) > MAX_NUMBERS:
        return NotImplemented
    sizes = np.broadcast_shapes(data.shape, tuple(int(n) for n in shape))
    return np.broadcast_to(data, sizes).copy()


def constant_of_shape(shape: Numbers, value: Constant | None = None) -> Any:
    """A small array of one value."""
    if has_symbols(shape) or math.prod(int(n) for n in shape) > MAX_NUMBERS:
        return NotImplemented
    fill = np.float32(0) if value is None else value.numbers.flat[0]
    return np.full([int(n) for n in shape], fill)


def range_numbers(start: Numbers, limit: Numbers, delta: Numbers) -> Any:
    """start, start + delta, ... below limit."""
    if has_symbols(start, limit, delta):
        return NotImplemented
    low, high, step = (a.reshape(-1)[0] for a in (start, limit, delta))
    if step == 0 or abs((float(high) - float(low)) / float(step)) > MAX_NUMBERS:
        return NotImplemented
    return np.arange(low, high, step, dtype=start.dtype if start.dtype != object else np.int64)


def reduce_product(data: Numbers, axes: Any = None, keepdims: int = 1, **_: Any) -> Numbers:
    """Product, as in the number of elements of a shape."""
    return np.asarray(np.prod(data, axis=_axes(axes), keepdims=bool(keepdims)))


def reduce_sum(data: Numbers, axes: Any = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Any:
    """Sum."""
    if noop_with_empty_axes:
        return NotImplemented
    return np.asarray(np.sum(data, axis=_axes(axes), keepdims=bool(keepdims)))


def _axes(axes: Any) -> tuple[int, ...] | None:
    return None if axes is None or len(axes) == 0 else tuple(int(axis) for axis in axes)


def transpose(data: Numbers, perm: Any = None) -> Numbers:
    """Permute axes."""
    return np.transpose(data, perm)
