"""The reference interpreter: runs an integer graph in numpy. Slow, plain, and the definition of every result."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepress.exporters.c import arithmetic, interpret_sequences, interpret_sums
from edgepress.exporters.c import graph as g
from edgepress.exporters.c.arithmetic import Ints, Rounding

Values = dict[str, Ints]


def run(
    graph: g.Graph, inputs: Mapping[str, npt.ArrayLike], rounding: Rounding = "double", before: Values | None = None
) -> Values:
    """All activations of one inference, by tensor name, as int64 arrays holding int8 values.

    inputs: one int8 array per graph input, of that input's shape. before: what an earlier run returned, to go on from
    the states of its recurrent layers (see `interpret_sequences.recurrent`); None starts at zero.
    """
    values: Values = {
        name: np.asarray(inputs[name], np.int64).reshape(graph.tensor(name).shape) for name in graph.inputs
    }
    values |= {name: value for name, value in (before or {}).items() if name.startswith(interpret_sequences.STATE)}
    for op in graph.ops:
        values[op.output] = _RULES[type(op)](graph, op, values, rounding)
    return values


def outputs(graph: g.Graph, inputs: Mapping[str, npt.ArrayLike], rounding: Rounding = "double") -> list[Ints]:
    """The graph outputs of one inference, in order."""
    values = run(graph, inputs, rounding)
    return [values[name] for name in graph.outputs]


def windows(x: Ints, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int] = (1, 1)) -> Ints:
    """x [1,H,W,C] (already padded) -> its windows [OH, OW, KH, KW, C]."""
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(x[0], reach, axis=(0, 1))  # [., ., C, reach, reach]
    view = view[:: stride[0], :: stride[1], :, :: dilation[0], :: dilation[1]]
    return view.transpose(0, 1, 3, 4, 2)


def pad_image(x: Ints, pads: tuple[int, int, int, int], value: int) -> Ints:
    top, left, bottom, right = pads
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)


def _zero_point(graph: g.Graph, name: str) -> int:
    return graph.tensor(name).zero_point


def _finish(graph: g.Graph, op: Any, total: Ints, factor: g.Rescale, rounding: Rounding) -> Ints:
    scaled = arithmetic.rescale(total, factor, rounding) + _zero_point(graph, op.output)
    return np.clip(scaled, *getattr(op, "clamp", g.FULL_RANGE))


def _product(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> Ints:
    """Exact integer matrix product by way of float64 (all sums stay far below 2**53)."""
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)


def _conv(graph: g.Graph, op: g.Conv, values: Values, rounding: Rounding) -> Ints:
    zero = _zero_point(graph, op.inputs[0])
    weight = graph.constant(op.inputs[1])
    x = pad_image(values[op.inputs[0]], op.pads, zero) - zero
    patches = windows(x, weight.shape[1:3], op.stride, op.dilation)
    height, width = patches.shape[:2]
    per_in, per_out = weight.shape[3], weight.shape[0] // op.groups
    parts = []
    for group in range(op.groups):
        columns = patches[..., group * per_in : (group + 1) * per_in].reshape(height * width, -1)
        parts.append(_product(columns, weight[group * per_out : (group + 1) * per_out].reshape(per_out, -1).T))
    total = np.concatenate(parts, axis=1) + graph.constant(op.inputs[2])
    return _finish(graph, op, total, op.rescale, rounding).reshape(graph.tensor(op.output).shape)


def _conv_transpose(graph: g.Graph, op: g.ConvTranspose, values: Values, rounding: Rounding) -> Ints:
    x = values[op.inputs[0]][0] - _zero_point(graph, op.inputs[0])
    weight = graph.constant(op.inputs[1])
    _, height, width, channels = graph.tensor(op.output).shape
    kernel_h, kernel_w = weight.shape[1:3]
    top, left = op.pads[:2]
    full_h = max((x.shape[0] - 1) * op.stride[0] + kernel_h, top + height)
    full_w = max((x.shape[1] - 1) * op.stride[1] + kernel_w, left + width)
    total = np.zeros((full_h, full_w, channels), np.int64)
    for i in range(kernel_h):
        for j in range(kernel_w):
            rows = slice(i, i + (x.shape[0] - 1) * op.stride[0] + 1, op.stride[0])
            columns = slice(j, j + (x.shape[1] - 1) * op.stride[1] + 1, op.stride[1])
            total[rows, columns] += _product(x, weight[:, i, j, :].T)
    total = total[top : top + height, left : left + width] + graph.constant(op.inputs[2])
    return _finish(graph, op, total, op.rescale, rounding)[None]


def _dense(graph: g.Graph, op: g.Dense, values: Values, rounding: Rounding) -> Ints:
    x = values[op.inputs[0]] - _zero_point(graph, op.inputs[0])
    total = _product(x, graph.constant(op.inputs[1]).T) + graph.constant(op.inputs[2])
    return _finish(graph, op, total, op.rescale, rounding)


def _matmul(graph: g.Graph, op: g.MatMul, values: Values, rounding: Rounding) -> Ints:
    a, b = (values[name] - _zero_point(graph, name) for name in op.inputs)
    total = _product(a, np.swapaxes(b, -1, -2) if op.transpose_b else b)
    return _finish(graph, op, total, op.rescale, rounding)


def _operand(graph: g.Graph, name: str, values: Values) -> Ints:
    data = graph.tensor(name).data
    raw = values[name] if data is None else data.astype(np.int64)
    return raw - _zero_point(graph, name)


def _arithmetic(graph: g.Graph, op: g.Arithmetic, values: Values, rounding: Rounding) -> Ints:
    a, b = (_operand(graph, name, values) for name in op.inputs)
    if op.kind == "mul":
        total = a * b
    else:
        left = arithmetic.rescale(a << op.left_shift, op.left, rounding)
        right = arithmetic.rescale(b << op.left_shift, op.right, rounding)
        total = (-left if op.kind == "rsub" else left) + (-right if op.kind == "sub" else right)
    return _finish(graph, op, total, op.output_rescale, rounding)


def _pool(graph: g.Graph, op: g.Pool, values: Values, rounding: Rounding) -> Ints:
    x = values[op.inputs[0]]
    if op.kind == "max":
        result = windows(pad_image(x, op.pads, -128), op.kernel, op.stride).max(axis=(2, 3))
    else:
        zero = _zero_point(graph, op.inputs[0])
        inside = np.zeros_like(x) + (1 if not op.count_padding else 0)
        total = windows(pad_image(x, op.pads, zero if op.count_padding else 0), op.kernel, op.stride).sum(axis=(2, 3))
        count = windows(pad_image(inside, op.pads, 0), op.kernel, op.stride).sum(axis=(2, 3))
        result = arithmetic.average(total, op.kernel[0] * op.kernel[1] if op.count_padding else count)
    height, width = graph.tensor(op.output).shape[1:3]
    return np.clip(result[:height, :width], *op.clamp)[None]


def _mean(graph: g.Graph, op: g.Mean, values: Values, rounding: Rounding) -> Ints:
    x = values[op.inputs[0]] - _zero_point(graph, op.inputs[0])
    total = x.reshape(-1, x.shape[-1]).sum(axis=0)
    return _finish(graph, op, total, op.rescale, rounding).reshape(graph.tensor(op.output).shape)


def _lookup(graph: g.Graph, op: g.Lookup, values: Values, rounding: Rounding) -> Ints:
    return np.asarray(op.table, np.int64)[values[op.inputs[0]] + 128]


def _softmax(graph: g.Graph, op: g.Softmax, values: Values, rounding: Rounding) -> Ints:
    return arithmetic.softmax(values[op.inputs[0]], op.multiplier, op.left_shift, op.diff_min)


def _reshape(graph: g.Graph, op: g.Reshape, values: Values, rounding: Rounding) -> Ints:
    return values[op.inputs[0]].reshape(graph.tensor(op.output).shape)


def _transpose(graph: g.Graph, op: g.Transpose, values: Values, rounding: Rounding) -> Ints:
    return values[op.inputs[0]].transpose(op.perm)


def _concat(graph: g.Graph, op: g.Concat, values: Values, rounding: Rounding) -> Ints:
    parts = [values[n] if n in values else graph.constant(n).astype(np.int64) for n in op.inputs]
    return np.concatenate(parts, axis=op.axis)


def _slice(graph: g.Graph, op: g.Slice, values: Values, rounding: Rounding) -> Ints:
    counts = graph.tensor(op.output).shape
    picks = [start + step * np.arange(n) for start, step, n in zip(op.start, op.step, counts, strict=True)]
    return values[op.inputs[0]][np.ix_(*picks)]


def _pad(graph: g.Graph, op: g.Pad, values: Values, rounding: Rounding) -> Ints:
    return np.pad(values[op.inputs[0]], op.pads, constant_values=op.value)


def _resize(graph: g.Graph, op: g.Resize, values: Values, rounding: Rounding) -> Ints:
    return values[op.inputs[0]][:, list(op.rows)][:, :, list(op.columns)]


_RULES: dict[type[g.Op], Callable[..., Ints]] = {
    g.Conv: _conv,
    g.ConvTranspose: _conv_transpose,
    g.Dense: _dense,
    g.MatMul: _matmul,
    g.Arithmetic: _arithmetic,
    g.Pool: _pool,
    g.Mean: _mean,
    g.Lookup: _lookup,
    g.Softmax: _softmax,
    g.LayerNorm: interpret_sequences.layer_norm,
    g.Attention: interpret_sequences.attention,
    g.Recurrent: interpret_sequences.recurrent,
    g.Embedding: interpret_sequences.embedding,
    g.Contract: interpret_sums.contract,
    g.Divide: interpret_sums.divide,
    g.Reshape: _reshape,
    g.Transpose: _transpose,
    g.Concat: _concat,
    g.Slice: _slice,
    g.Pad: _pad,
    g.Resize: _resize,
}
