"""What each ATen operator becomes in ONNX (opset 17), in the forms that runtimes recognise and fuse.

A translation takes the builder, the node and the name its value shall have, and emits nodes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.fx import Node

from edgepress.exporters.onnx_graph import ELEMENT, GraphBuilder, NotTranslated, is_size, to_numpy
from edgepress.ir.text import op_name

Translation = Callable[[GraphBuilder, Node, str], None]
QUANTIZED = {"quantized_decomposed.dequantize_per_tensor", "quantized_decomposed.dequantize_per_channel"}
IN_BLOCKS = "quantized_decomposed.dequantize_per_channel_group"


def arg(node: Node, position: int, default: Any = None) -> Any:
    """The positional argument, or a default where it is left out or None."""
    value = node.args[position] if position < len(node.args) else None
    return default if value is None else value


def many(value: Any, count: int) -> list[int]:
    """`3` or `[3]` -> `[3, 3]`."""
    items = list(value) if isinstance(value, list | tuple) else [value]
    return items * count if len(items) == 1 else items


def rank(node: Any) -> int:
    return int(node.meta["val"].dim())


def zero_point(value: Any, dtype: Any) -> np.ndarray[Any, Any]:
    """A zero point in the type of its integers."""
    return to_numpy(torch.as_tensor(value).to(dtype))


# -- layers with weights -------------------------------------------------------------------------------------------


def _convolution(g: GraphBuilder, node: Node, out: str) -> None:
    spatial = rank(arg(node, 1)) - 2
    stride, dilation = many(arg(node, 3, 1), spatial), many(arg(node, 5, 1), spatial)
    kernel = [int(s) for s in arg(node, 1).meta["val"].shape[2:]]
    g.emit("Conv", _operands(g, node), out=out, kernel_shape=kernel, strides=stride, dilations=dilation,
           pads=_pads(arg(node, 4, 0), kernel, dilation), group=arg(node, 6, 1))  # fmt: skip


def _pads(padding: Any, kernel: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """ONNX order: all beginnings, then all ends."""
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return [t // 2 for t in total] + [t - t // 2 for t in total]
    sizes = many(0 if padding == "valid" else padding, len(kernel))
    return sizes * 2


def _operands(g: GraphBuilder, node: Node) -> list[str]:
    bias = arg(node, 2)
    return [g.name(arg(node, 0)), g.name(arg(node, 1))] + ([] if bias is None else [g.name(bias)])


def _transposed_convolution(g: GraphBuilder, node: Node, out: str) -> None:
    spatial = rank(arg(node, 1)) - 2
    kernel = [int(s) for s in arg(node, 1).meta["val"].shape[2:]]
    g.emit("ConvTranspose", _operands(g, node), out=out, kernel_shape=kernel, strides=many(arg(node, 3, 1), spatial),
           pads=many(arg(node, 4, 0), spatial) * 2, output_padding=many(arg(node, 5, 0), spatial),
           group=arg(node, 6, 1), dilations=many(arg(node, 7, 1), spatial))  # fmt: skip


def _linear(g: GraphBuilder, node: Node, out: str) -> None:
    plain = rank(arg(node, 0)) == 2 and op_name(arg(node, 1)) != IN_BLOCKS
    if arg(node, 2) is not None and (plain or _is_quantized(node)):
        _gemm(g, node, out)
        return
    bias = arg(node, 2)
    product = g.emit("MatMul", [g.name(arg(node, 0)), _transposed_weight(g, arg(node, 1))],
                     out=out if bias is None else "")  # fmt: skip
    if bias is not None:
        g.emit("Add", [product, _float_bias(g, bias)], out=out)


def _is_quantized(node: Node) -> bool:
    """Whether weight and bias come as integers and at most one size is free, so that rows can be flattened."""
    free = [size for size in node.meta["val"].shape if not isinstance(size, int)]
    return len(free) <= 1 and all(op_name(arg(node, i)) in QUANTIZED for i in (0, 1, 2))


def _gemm(g: GraphBuilder, node: Node, out: str) -> None:
    """The form with an integer kernel that takes the bias along. More than two axes are flattened to rows around it."""
    names = _operands(g, node)
    if rank(arg(node, 0)) == 2:
        g.emit("Gemm", names, out=out, transB=1)
        return
    columns = int(arg(node, 0).meta["val"].shape[-1])
    rows = g.emit("Reshape", [names[0], g.integers([-1, columns])])
    g.emit("Reshape", [g.emit("Gemm", [rows, *names[1:]], transB=1), g.target_shape(node)], out=out)


def _transposed_weight(g: GraphBuilder, weight: Any) -> str:
    """(out, in) -> (in, out), on the stored tensor where there is one."""
    tensor = g.tensor(weight)
    if tensor is not None:
        return g.constant(to_numpy(tensor).T, f"{weight.name}_t")
    stored = g.tensor(weight.args[0]) if op_name(weight) in (*QUANTIZED, IN_BLOCKS) else None
    if stored is None:
        return g.emit("Transpose", [g.name(weight)], perm=[1, 0])
    array = g.constant(to_numpy(stored).T, f"{weight.args[0].name}_t")
    if op_name(weight).endswith("per_tensor"):
        scale, zero = (
            g.constant(np.asarray(weight.args[1], np.float32)),
            g.constant(zero_point(weight.args[2], weight.args[5])),
        )
        return g.emit("DequantizeLinear", [array, scale, zero])
    scales, zeros = g.tensor(weight.args[1]), g.tensor(weight.args[2])
    assert scales is not None and zeros is not None
    if op_name(weight) == IN_BLOCKS:  # (rows, blocks) -> (blocks, rows), along with the weight
        return g.emit("DequantizeLinear", [array, g.constant(to_numpy(scales).T, "s")], axis=0,
                      block_size=weight.args[6])  # fmt: skip
    names = [array, g.constant(to_numpy(scales), "s"), g.constant(zero_point(zeros, weight.args[6]))]
    return g.emit("DequantizeLinear", names, axis=1 - weight.args[3])


def _float_bias(g: GraphBuilder, bias: Node) -> str:
    """A bias of a matrix product is added in float: what it was on the accumulator's grid, as float."""
    stored = g.tensor(bias.args[0]) if op_name(bias) in QUANTIZED else None
    if stored is None:
        return g.name(bias)
    scales = g.tensor(bias.args[1])
    factor = torch.as_tensor(arg(bias, 1), dtype=torch.float32) if scales is None else scales
    return g.constant(to_numpy(stored.float() * factor), f"{bias.name}_f")


def _batch_norm(g: GraphBuilder, node: Node, out: str) -> None:
    source, gamma, beta, mean, var = (arg(node, i) for i in range(5))
    channels = int(mean.meta["val"].shape[0])
    ones, zeros = (np.full(channels, v, np.float32) for v in (1.0, 0.0))
    scale = g.constant(ones) if gamma is None else g.name(gamma)
    shift = g.constant(zeros) if beta is None else g.name(beta)
    g.emit("BatchNormalization", [g.name(source), scale, shift, g.name(mean), g.name(var)], out=out,
           epsilon=float(arg(node, 7)))  # fmt: skip


def _layer_norm(g: GraphBuilder, node: Node, out: str) -> None:
    shape, gamma, beta = arg(node, 1), arg(node, 2), arg(node, 3)
    scale = g.constant(np.ones(shape, np.float32)) if gamma is None else g.name(gamma)
    names = [g.name(arg(node, 0)), scale] + ([] if beta is None else [g.name(beta)])
    g.emit("LayerNormalization", names, out=out, axis=-len(shape), epsilon=float(arg(node, 4, 1e-5)))


def _embedding(g: GraphBuilder, node: Node, out: str) -> None:
    g.emit("Gather", [g.name(arg(node, 0)), g.name(arg(node, 1))], out=out, axis=0)


# -- elementwise ---------------------------------------------------------------------------------------------------


def unary(op: str, **attributes: Any) -> Translation:
    def rule(g: GraphBuilder, node: Node, out: str) -> None:
        g.emit(op, [g.name(arg(node, 0))], out=out, **attributes)

    return rule


def _binary(op: str) -> Translation:
    def rule(g: GraphBuilder, node: Node, out: str) -> None:
        if node.kwargs.get("alpha", 1) != 1:
            raise NotTranslated(f"{op_name(node)} with alpha")
        g.emit(op, [operand(g, node, a) for a in node.args[:2]], out=out)

    return rule


def operand(g: GraphBuilder, node: Node, value: Any) -> str:
    """A tensor, a number or a size in the type of the result: torch mixes types in one operator, ONNX does not."""
    dtype = node.meta["val"].dtype
    if isinstance(value, int | float) and not isinstance(value, bool):
        return g.scalar(value, dtype)
    if is_size(value):
        return g.number(value, dtype)
    mixed = isinstance(value, Node) and value.meta["val"].dtype != dtype and dtype != torch.bool
    return g.emit("Cast", [g.name(value)], to=ELEMENT[dtype]) if mixed else g.name(value)


def _clamp(g: GraphBuilder, node: Node, out: str) -> None:
    dtype = node.meta["val"].dtype
    bounds = (-1.0, 1.0) if "hardtanh" in op_name(node) else (None, None)
    low, high = (arg(node, i + 1, bounds[i]) for i in (0, 1))
    names = ["" if bound is None else g.scalar(bound, dtype) for bound in (low, high)]
    g.emit("Clip", [g.name(arg(node, 0)), *names], out=out)


def _relu6(g: GraphBuilder, node: Node, out: str) -> None:
    g.emit("Clip", [g.name(arg(node, 0)), g.scalar(0.0), g.scalar(6.0)], out=out)


def _leaky_relu(g: GraphBuilder, node: Node, out: str) -> None:
    g.emit("LeakyRelu", [g.name(arg(node, 0))], out=out, alpha=float(arg(node, 1, 0.01)))


def _silu(g: GraphBuilder, node: Node, out: str) -> None:
    source = g.name(arg(node, 0))
    g.emit("Mul", [source, g.emit("Sigmoid", [source])], out=out)


def gelu_by_erf(g: GraphBuilder, node: Node, out: str) -> None:
    """x * (1 + erf(x / sqrt 2)) / 2, spelled as the fusions of onnxruntime expect it."""
    source = g.name(arg(node, 0))
    erf = g.emit("Erf", [g.emit("Div", [source, g.scalar(math.sqrt(2.0))])])
    both = g.emit("Mul", [source, g.emit("Add", [erf, g.scalar(1.0)])])
    g.emit("Mul", [both, g.scalar(0.5)], out=out)


def _softmax(g: GraphBuilder, node: Node, out: str) -> None:
    g.emit("Softmax", [g.name(arg(node, 0))], out=out, axis=arg(node, 1))


# -- pooling and reduction -----------------------------------------------------------------------------------------


def _max_pool(g: GraphBuilder, node: Node, out: str) -> None:
    spatial = rank(node) - 2
    kernel = many(arg(node, 1), spatial)
    g.emit("MaxPool", [g.name(arg(node, 0))], out=out, kernel_shape=kernel,
           strides=many(arg(node, 2) or kernel, spatial), pads=many(arg(node, 3, 0), spatial) * 2,
           dilations=many(arg(node, 4, 1), spatial), ceil_mode=int(arg(node, 5, False)))  # fmt: skip


def _average_pool(g: GraphBuilder, node: Node, out: str) -> None:
    if arg(node, 6) is not None:
        raise NotTranslated("average pooling with a divisor")
    spatial = rank(node) - 2
    kernel = many(arg(node, 1), spatial)
    g.emit("AveragePool", [g.name(arg(node, 0))], out=out, kernel_shape=kernel,
           strides=many(arg(node, 2) or kernel, spatial), pads=many(arg(node, 3, 0), spatial) * 2,
           ceil_mode=int(arg(node, 4, False)), count_include_pad=int(arg(node, 5, True)))  # fmt: skip


def _adaptive_average_pool(g: GraphBuilder, node: Node, out: str) -> None:
    target, source = arg(node, 1), arg(node, 0).meta["val"].shape[2:]
    wanted = [s if w is None else w for s, w in zip(source, many(target, len(source)), strict=True)]
    if all(isinstance(w, int) and w == 1 for w in wanted):
        g.emit("GlobalAveragePool", [g.name(arg(node, 0))], out=out)
        return
    if any(not isinstance(s, int) or s % w for s, w in zip(source, wanted, strict=True)):
        raise NotTranslated("adaptive pooling that does not divide its input")
    kernel = [int(s) // w for s, w in zip(source, wanted, strict=True)]
    g.emit("AveragePool", [g.name(arg(node, 0))], out=out, kernel_shape=kernel, strides=kernel)


def _mean(g: GraphBuilder, node: Node, out: str) -> None:
    axes = [a % rank(arg(node, 0)) for a in arg(node, 1, list(range(rank(arg(node, 0)))))]
    keep = bool(arg(node, 2, False))
    if rank(arg(node, 0)) == 4 and sorted(axes) == [2, 3]:
        _spatial_mean(g, node, out, keep)
    else:
        g.emit("ReduceMean", [g.name(arg(node, 0))], out=out, axes=axes, keepdims=int(keep))


def _spatial_mean(g: GraphBuilder, node: Node, out: str, keep: bool) -> None:
    """GlobalAveragePool has integer kernels, ReduceMean has none. The flattening goes behind the quantization."""
    if keep:
        g.emit("GlobalAveragePool", [g.name(arg(node, 0))], out=out)
    else:
        g.emit("Flatten", [g.emit("GlobalAveragePool", [g.name(arg(node, 0))])], out=out, axis=1)


# -- shapes --------------------------------------------------------------------------------------------------------


def reshape(g: GraphBuilder, node: Node, out: str) -> None:
    g.emit("Reshape", [g.name(arg(node, 0)), g.target_shape(node)], out=out)


def _flatten(g: GraphBuilder, node: Node, out: str) -> None:
    last = arg(node, 2, -1) % rank(arg(node, 0))
    if arg(node, 1, 0) == 1 and last == rank(arg(node, 0)) - 1:
        g.emit("Flatten", [g.name(arg(node, 0))], out=out, axis=1)
    else:
        reshape(g, node, out)


def _transpose(g: GraphBuilder, node: Node, out: str) -> None:
    order = list(range(rank(node)))
    first, second = (int(arg(node, i)) % rank(node) for i in (1, 2))
    order[first], order[second] = order[second], order[first]
    g.emit("Transpose", [g.name(arg(node, 0))], out=out, perm=order)


def _permute(g: GraphBuilder, node: Node, out: str) -> None:
    g.emit("Transpose", [g.name(arg(node, 0))], out=out, perm=[a % rank(node) for a in arg(node, 1)])


def _cat(g: GraphBuilder, node: Node, out: str) -> None:
    g.emit("Concat", [g.name(a) for a in arg(node, 0)], out=out, axis=arg(node, 1, 0) % rank(node))


def _slice(g: GraphBuilder, node: Node, out: str) -> None:
    axis, start, end, step = (arg(node, i, d) for i, d in ((1, 0), (2, 0), (3, 2**63 - 1), (4, 1)))
    axis %= rank(node)
    if not all(isinstance(v, int) for v in (start, end, step)):
        g.emit("Slice", [g.name(arg(node, 0)), *(g.sizes([v]) for v in (start, end, axis, step))], out=out)
        return
    # Two strided slices in a row become one node: runtimes move integers once.
    source, bounds = _merged_slice(g, arg(node, 0), (axis, start, end, step))
    axes, starts, ends, steps = (list(column) for column in zip(*bounds, strict=True))
    g.emit("Slice", [g.name(source), *map(g.integers, (starts, ends, axes, steps))], out=out)


def _merged_slice(g: GraphBuilder, source: Any, own: tuple[int, ...]) -> tuple[Any, list[tuple[int, ...]]]:
    bounds = [own]
    while op_name(source) == "aten.slice.Tensor" and len(source.users) == 1:
        other = tuple(arg(source, i, d) for i, d in ((1, 0), (2, 0), (3, 2**63 - 1), (4, 1)))
        if not all(isinstance(v, int) for v in other) or other[0] in {b[0] for b in bounds}:
            break
        bounds.insert(0, other)
        source = source.args[0]
    return source, bounds


def _split(g: GraphBuilder, node: Node, out: str) -> None:
    """Several results: their names wait for the `getitem` nodes that pick them."""
    axis = arg(node, 2, 0) % rank(node.args[0])
    sizes = [v.shape[axis] for v in node.meta["val"]]
    if not all(isinstance(s, int) for s in sizes):
        raise NotTranslated("a split into free sizes")
    parts = [f"{out}_{i}" for i in range(len(sizes))]
    g.emit("Split", [g.name(arg(node, 0)), g.integers([int(s) for s in sizes])], out=parts, axis=axis)


def _item(g: GraphBuilder, node: Node, out: str) -> None:
    g.names[node] = f"{g.name(arg(node, 0))}_{arg(node, 1)}"


def _select(g: GraphBuilder, node: Node, out: str) -> None:
    axis, index = int(arg(node, 1)) % rank(arg(node, 0)), arg(node, 2)
    if not isinstance(index, int):
        raise NotTranslated("a selection with a computed index")
    g.emit("Gather", [g.name(arg(node, 0)), g.constant(np.asarray(index, np.int64))], out=out, axis=axis)


def _pad(g: GraphBuilder, node: Node, out: str) -> None:
    is_aten_pad = op_name(node) == "aten.pad"
    mode = arg(node, 2, "constant") if is_aten_pad else "constant"
    value = arg(node, 3, 0.0) if is_aten_pad else arg(node, 2, 0.0)
    if mode not in ("constant", "reflect", "replicate") or not all(isinstance(a, int) for a in arg(node, 1)):
        raise NotTranslated(f"padding with {mode}")
    sizes: list[int] = list(arg(node, 1))
    before, after = [0] * rank(node), [0] * rank(node)
    for i in range(len(sizes) // 2):  # torch counts axes from the last
        before[-1 - i], after[-1 - i] = sizes[2 * i], sizes[2 * i + 1]
    names = [g.name(arg(node, 0)), g.integers(before + after)]
    if mode == "constant":
        names.append(g.scalar(float(value), node.meta["val"].dtype))
    g.emit("Pad", names, out=out, mode={"replicate": "edge"}.get(mode, mode))


def _unsqueeze(g: GraphBuilder, node: Node, out: str) -> None:
    g.emit("Unsqueeze", [g.name(arg(node, 0)), g.integers([int(arg(node, 1)) % rank(node)])], out=out)


def _expand(g: GraphBuilder, node: Node, out: str) -> None:
    g.emit("Expand", [g.name(arg(node, 0)), g.full_shape(node)], out=out)


# -- attention -----------------------------------------------------------------------------------------------------


def _attention(g: GraphBuilder, node: Node, out: str) -> None:
    """softmax(Q K^T / sqrt(d) + mask) V."""
    query, key, value, mask = (arg(node, i) for i in range(4))
    width = int(query.meta["val"].shape[-1])
    factor: Any = node.kwargs.get("scale") or 1.0 / math.sqrt(width)
    order = list(range(rank(key)))
    order[-1], order[-2] = order[-2], order[-1]
    scaled = g.emit("Mul", [g.name(query), g.scalar(float(factor))])
    scores = g.emit("MatMul", [scaled, g.emit("Transpose", [g.name(key)], perm=order)])
    if mask is not None:
        if mask.meta["val"].dtype == torch.bool:
            raise NotTranslated("attention with a boolean mask")
        scores = g.emit("Add", [scores, g.name(mask)])
    if arg(node, 5, False):
        scores = g.emit("Add", [scores, g.constant(_later(query, key))])
    g.emit("MatMul", [g.emit("Softmax", [scores], axis=-1), g.name(value)], out=out)


def _later(query: Node, key: Node) -> np.ndarray[Any, Any]:
    """0 where a query may look, -inf at all later keys."""
    sizes = query.meta["val"].shape[-2], key.meta["val"].shape[-2]
    if not all(isinstance(s, int) for s in sizes):
        raise NotTranslated("causal attention over a free number of positions")
    return np.triu(np.full(sizes, -np.inf, np.float32), 1)


def _cast(g: GraphBuilder, node: Node, out: str) -> None:
    g.emit("Cast", [g.name(arg(node, 0))], out=out, to=ELEMENT[node.meta["val"].dtype])


def nothing(g: GraphBuilder, node: Node, out: str) -> None:
    """Sizes are read from the values they belong to."""
    del g.names[node]


def same(g: GraphBuilder, node: Node, out: str) -> None:
    g.names[node] = g.name(arg(node, 0))


TRANSLATIONS: Mapping[str, Translation] = {
    **{f"aten.conv{d}d": _convolution for d in (1, 2, 3)},
    **{f"aten.conv{d}d.padding": _convolution for d in (1, 2, 3)},
    "aten.conv_transpose1d": _transposed_convolution,
    "aten.conv_transpose2d.input": _transposed_convolution,
    "aten.linear": _linear,
    "aten.batch_norm": _batch_norm,
    "aten.layer_norm": _layer_norm,
    "aten.embedding": _embedding,
    "aten.relu": unary("Relu"), "aten.relu_": unary("Relu"), "aten.sigmoid": unary("Sigmoid"),
    "aten.tanh": unary("Tanh"), "aten.exp": unary("Exp"), "aten.sqrt": unary("Sqrt"), "aten.neg": unary("Neg"),
    "aten.abs": unary("Abs"), "aten.log": unary("Log"), "aten.hardswish": unary("HardSwish"),
    "aten.hardswish_": unary("HardSwish"), "aten.hardsigmoid": unary("HardSigmoid", alpha=1 / 6),
    "aten.elu": unary("Elu"), "aten.softplus": unary("Softplus"),
    "aten.relu6": _relu6, "aten.hardtanh": _clamp, "aten.hardtanh_": _clamp, "aten.clamp": _clamp,
    "aten.leaky_relu": _leaky_relu, "aten.leaky_relu_": _leaky_relu, "aten.silu": _silu, "aten.silu_": _silu,
    "aten.softmax.int": _softmax,
    "aten.add.Tensor": _binary("Add"), "aten.add_.Tensor": _binary("Add"), "aten.sub.Tensor": _binary("Sub"),
    "aten.mul.Tensor": _binary("Mul"), "aten.mul_.Tensor": _binary("Mul"), "aten.div.Tensor": _binary("Div"),
    "aten.matmul": _binary("MatMul"), "aten.bmm": _binary("MatMul"), "aten.mm": _binary("MatMul"),
    "aten.max_pool1d": _max_pool, "aten.max_pool2d": _max_pool, "aten.avg_pool1d": _average_pool,
    "aten.avg_pool2d": _average_pool, "aten.avg_pool3d": _average_pool,
    **{f"aten.adaptive_avg_pool{d}d": _adaptive_average_pool for d in (1, 2, 3)}, "aten.mean.dim": _mean,
    "aten.reshape": reshape, "aten.view": reshape, "aten.unflatten.int": reshape,
    "aten.flatten.using_ints": _flatten, "aten.transpose.int": _transpose, "aten.permute": _permute, "aten.cat": _cat,
    "aten.split.Tensor": _split,
    "aten.split_with_sizes": _split,
    "aten.chunk": _split,
    "getitem": _item,
    "aten.slice.Tensor": _slice, "aten.select.int": _select, "aten.pad": _pad, "aten.constant_pad_nd": _pad,
    "aten.unsqueeze": _unsqueeze, "aten.expand": _expand,
    "aten.scaled_dot_product_attention": _attention, "aten.to.dtype": _cast,
    "aten.sym_size.int": nothing, "aten.dropout": same, "aten.dropout_": same, "aten.contiguous": same,
    "aten.clone": same, "aten.alias": same, "aten.detach": same,
}  # fmt: skip
"""ATen operator -> translation."""
