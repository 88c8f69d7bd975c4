"""int8 QDQ `.onnx` -> integer graph: the way from an edgepress program to C.

Multipliers are input scale * weight scale / output scale in double precision; onnxruntime computes the same layers with
float scales, so outputs may differ from its by a few integers (a measured figure, see docs/embedded.md).
"""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgepress.errors import UserError
from edgepress.exporters.c import graph as g
from edgepress.exporters.c import (
    onnx_attention,
    onnx_elementwise,
    onnx_lazy,
    onnx_moves,
    onnx_reader,
    onnx_sequences,
    onnx_sums,
)
from edgepress.exporters.c.arithmetic import rescale_of
from edgepress.exporters.c.onnx_reader import IMAGE, PLAIN, Model, Node, Value

Converter = Callable[[Model, Node], None]


def read(path: Path) -> g.Graph:
    """Read a QDQ model. Raises UserError naming the first node that has no integer form."""
    model = onnx_reader.load(path)
    if not any(node.kind == "DequantizeLinear" for node in model.nodes):
        raise _float_network(model)
    for node in model.nodes:
        if id(node) not in model.done:
            _convert(model, node)
    outputs = tuple(_output(model, name) for name in model.outputs)
    inputs = tuple(model.graph_inputs[name] for name in model.inputs if name in model.graph_inputs)
    images = tuple(name for name in inputs if name in model.values and model.values[name].layout == IMAGE)
    return _pruned(g.Graph(path.stem, model.tensors, tuple(model.ops), inputs, outputs, channels_last=images))


def _float_network(model: Model) -> UserError:
    return UserError(
        f"{model.path.name} is a float network, and C for microcontrollers computes on integers",
        found="no quantized value in it",
        expected="an int8 network with QuantizeLinear and DequantizeLinear",
        fix="edgepress run a recipe with the steps `quantize` and `export: {format: c}` and `targets: [cortex-m4]`",
    )


def _convert(model: Model, node: Node) -> None:
    if node.kind in ("Mul", "MatMul") and onnx_attention.take(model, node):
        return
    if onnx_sums.take(model, node) or onnx_lazy.follow(model, node):
        return
    rule = _CONVERTERS.get(node.kind)
    if rule is None:
        raise model.refuse(
            node, f"operator {node.kind}", "one of " + ", ".join(sorted({*_CONVERTERS, *onnx_lazy.UNARY}))
        )
    rule(model, node)


def _output(model: Model, name: str) -> str:
    value = model.values.get(name)
    if value is None:
        raise UserError(
            f"{model.path.name}: output {name} is not quantized",
            found="a float result",
            expected="QuantizeLinear, DequantizeLinear before the output",
            fix="quantize the last operator's output",
        )
    return onnx_reader.as_plain(model, value).tensor


def _pruned(graph: g.Graph) -> g.Graph:
    """Without operators and tensors that no output needs."""
    needed = set(graph.outputs)
    kept = []
    for op in reversed(graph.ops):
        if op.output in needed:
            needed |= set(op.inputs)
            kept.append(op)
    tensors = {name: tensor for name, tensor in graph.tensors.items() if name in needed or name in graph.inputs}
    return replace(graph, tensors=tensors, ops=tuple(reversed(kept)))


# --- borders ------------------------------------------------------------------------------------------------------


def _quantize(model: Model, node: Node) -> None:
    """At a float input: the integers become the graph's input. Elsewhere: a change of scale."""
    name = node.inputs[0]
    scale, zero = onnx_reader.activation_parameters(model, node)
    if name in model.inputs:
        _graph_input(model, name, node.outputs[0], scale, zero)
        return
    label = node.name or node.outputs[0]
    if name in model.chains:
        onnx_lazy.write(model, model.chains[name], node.outputs[0], scale, zero, label)
        return
    value = model.value(node, 0)
    source = model.tensor(value)
    if (source.scale, source.zero_point) == ((scale,), zero):
        model.values[node.outputs[0]] = value
        return
    reals = (np.arange(-128, 128) - source.zero_point) * source.scale[0]
    onnx_lazy.write(model, onnx_lazy.Chain(value, reals, ""), node.outputs[0], scale, zero, label)


def _graph_input(model: Model, source: str, name: str, scale: float, zero: int) -> None:
    shape = model.shapes[source]
    if not shape or 0 in shape:
        raise UserError(
            f"{model.path.name}: input {name} has free dimensions", found=str(shape), expected="fixed sizes"
        )
    layout = IMAGE if len(shape) in (3, 4) and _feeds_image(model, name) else PLAIN
    onnx_reader.result(model, name, shape, layout, scale, zero)
    model.graph_inputs[source] = name


_ANY_ORDER = {"DequantizeLinear", "QuantizeLinear", "Pad", "Add", "Sub", "Mul", "BatchNormalization", *onnx_lazy.UNARY}


def _feeds_image(model: Model, name: str) -> bool:
    """Does an operator behind a quantized input want an image, before anything that cares for the order of axes?"""
    users = model.consumers.get(name, [])
    if any(node.kind in onnx_reader.IMAGE_OPS for node in users):
        return True
    return any(_feeds_image(model, node.outputs[0]) for node in users if node.kind in _ANY_ORDER)


def _dequantize(model: Model, node: Node) -> None:
    name = node.inputs[0]
    data = model.constants.get(name)
    if data is not None:
        model.values[node.outputs[0]] = onnx_reader.constant_value(model, node, data)
        return
    if name not in model.values and name in model.inputs:
        _graph_input(model, name, name, *onnx_reader.activation_parameters(model, node))
    model.values[node.outputs[0]] = model.value(node, 0)


# --- matrix products ----------------------------------------------------------------------------------------------


def _bias(model: Model, node: Node, position: int, channels: int, scales: list[float]) -> str:
    """Name of an int32 bias in units of input scale * weight scale; zeros if there is none."""
    given = node.inputs[position] if position < len(node.inputs) else ""
    data = np.zeros(channels, np.int64)
    if given and given in model.values:
        tensor = model.tensor(model.value(node, position))
        raw = np.asarray(tensor.data, np.int64).reshape(-1)
        exact = np.allclose(np.resize(tensor.scale, channels), scales, rtol=1e-5)
        data = raw if exact else np.rint(raw * np.resize(tensor.scale, channels) / scales).astype(np.int64)
    elif given:
        real = model.constant(node, position)
        if real is None:
            raise model.refuse(node, f"bias {given} is computed", "a constant bias")
        data = np.rint(np.asarray(real, np.float64).reshape(-1) / scales).astype(np.int64)
    if np.abs(data).max(initial=0) >= 2**31:
        raise model.refuse(node, f"a bias of {np.abs(data).max()} in input scale * weight scale", "an int32 bias")
    return model.add(g.Tensor(f"{node.outputs[0]}:bias", (channels,), "int32", data=data.astype(np.int32))).name


def _weight(model: Model, node: Node, position: int) -> g.Tensor:
    tensor = model.tensor(model.value(node, position))
    if tensor.data is None or tensor.dtype != "int8" or tensor.zero_point != 0:
        found = "computed" if tensor.data is None else f"{tensor.dtype}, zero point {tensor.zero_point}"
        raise model.refuse(node, f"weights {tensor.name}: {found}", "constant symmetric int8 weights")
    return tensor


def _spatial(node: Node, name: str, default: int) -> tuple[int, int]:
    """A per-axis attribute for two axes; one-dimensional convolutions get a height of 1."""
    values = [int(v) for v in node.attributes.get(name, ())] or [default, default]
    return (values[0], values[1]) if len(values) == 2 else (default, values[0])


def _pads(
    model: Model,
    node: Node,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[int, int, int, int]:
    """top, left, bottom, right, from `pads` or `auto_pad`."""
    mode = node.attributes.get("auto_pad", b"NOTSET").decode()
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        before, after = [], []
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
            total = max((math.ceil(n / s) - 1) * s + (k - 1) * d + 1 - n, 0)
            small = total // 2
            before.append(small if mode == "SAME_UPPER" else total - small)
            after.append(total - before[-1])
        return before[0], before[1], after[0], after[1]
    pads = [int(v) for v in node.attributes.get("pads", ())] or [0, 0, 0, 0]
    if len(pads) == 2:
        pads = [0, pads[0], 0, pads[1]]
    if min(pads) < 0:
        raise model.refuse(node, f"pads {pads}", "pads of 0 or more")
    return pads[0], pads[1], pads[2], pads[3]


def _conv(model: Model, node: Node) -> None:
    value = onnx_reader.as_image(model, model.value(node, 0))
    x, weight = model.tensor(value), _weight(model, node, 1)
    data = np.asarray(weight.data)
    data = data if data.ndim == 4 else data[:, :, None, :]  # [O, I, L] -> [O, I, 1, L]
    kernel = (data.shape[2], data.shape[3])
    stride, dilation = _spatial(node, "strides", 1), _spatial(node, "dilations", 1)
    end = onnx_reader.required_ending(model, node)
    scales = [x.scale[0] * s for s in np.resize(weight.scale, data.shape[0])]
    ordered = np.ascontiguousarray(data.transpose(0, 2, 3, 1))
    packed = model.add(g.Tensor(f"{node.outputs[0]}:weight", ordered.shape, "int8", weight.scale, 0, ordered))
    pads = _pads(model, node, (x.shape[1], x.shape[2]), kernel, stride, dilation)
    shape = _conv_shape(value.shape, data.shape[0], kernel, stride, dilation, pads)
    y = onnx_reader.result(model, end.name, shape, IMAGE, end.scale, end.zero_point)
    model.ops.append(
        g.Conv(
            name=node.name or end.name,
            inputs=(x.name, packed.name, _bias(model, node, 2, data.shape[0], scales)),
            output=y.name,
            rescale=rescale_of(*(s / end.scale for s in scales)),
            stride=stride,
            dilation=dilation,
            pads=pads,
            groups=int(node.attributes.get("group", 1)),
            clamp=end.clamp(),
        )
    )


def _conv_shape(
    shape: tuple[int, ...],
    channels: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    pads: tuple[int, int, int, int],
) -> tuple[int, ...]:
    """ONNX shape of a convolution's or pool's result."""
    spatial = shape[2:] if len(shape) == 4 else (1, shape[2])
    out = [
        (n + before + after - (k - 1) * d - 1) // s + 1
        for n, k, s, d, before, after in zip(spatial, kernel, stride, dilation, pads[:2], pads[2:], strict=True)
    ]
    return (shape[0], channels, *(out if len(shape) == 4 else out[1:]))


def _conv_transpose(model: Model, node: Node) -> None:
    value = onnx_reader.as_image(model, model.value(node, 0))
    x, weight = model.tensor(value), _weight(model, node, 1)
    plain = node.attributes.get("group", 1) == 1 and set(node.attributes.get("dilations", [1])) == {1}
    if not plain or weight.data is None or "output_shape" in node.attributes or len(value.shape) != 4:
        raise model.refuse(node, str(node.attributes), "two axes, one group, no dilation, no output_shape")
    data = np.ascontiguousarray(weight.data.transpose(1, 2, 3, 0))  # [I,O,KH,KW] -> [O,KH,KW,I]
    stride, extra = _spatial(node, "strides", 1), _spatial(node, "output_padding", 0)
    pads = _pads(model, node, (x.shape[1], x.shape[2]), (data.shape[1], data.shape[2]), stride, (1, 1))
    end = onnx_reader.required_ending(model, node)
    scales = [x.scale[0] * s for s in np.resize(weight.scale, data.shape[0])]
    sizes = [
        (n - 1) * s + k - pads[axis] - pads[axis + 2] + extra[axis]
        for axis, (n, s, k) in enumerate(zip(x.shape[1:3], stride, data.shape[1:3], strict=True))
    ]
    y = onnx_reader.result(model, end.name, (1, data.shape[0], *sizes), IMAGE, end.scale, end.zero_point)
    packed = model.add(g.Tensor(f"{node.outputs[0]}:weight", data.shape, "int8", weight.scale, 0, data))
    model.ops.append(
        g.ConvTranspose(
            name=node.name or end.name,
            inputs=(x.name, packed.name, _bias(model, node, 2, data.shape[0], scales)),
            output=y.name,
            rescale=rescale_of(*(s / end.scale for s in scales)),
            stride=stride,
            pads=pads,
            clamp=end.clamp(),
        )
    )


def _gemm(model: Model, node: Node) -> None:
    options = [node.attributes.get(name, default) for name, default in (("transA", 0), ("alpha", 1.0), ("beta", 1.0))]
    if options != [0, 1.0, 1.0]:
        raise model.refuse(node, f"transA, alpha, beta = {options}", "0, 1, 1")
    weight = _weight(model, node, 1)
    _dense(model, node, weight, bool(node.attributes.get("transB", 0)))


def _dense(model: Model, node: Node, weight: g.Tensor, transposed: bool) -> None:
    """x [.., I] times a constant matrix; `transposed` if it is [O, I]."""
    value = model.value(node, 0)
    data = np.asarray(weight.data) if transposed else np.asarray(weight.data).T
    if value.layout == onnx_reader.FLAT_IMAGE:  # columns from CHW to HWC order instead of moving the activations
        _, channels, *sizes = value.image
        data = data.reshape(-1, channels, *sizes)
        data = np.moveaxis(data, 1, -1).reshape(data.shape[0], -1)
    else:
        value = onnx_reader.as_plain(model, value)
    x = model.tensor(value)
    end, fused = _dense_ending(model, node)
    outputs = data.shape[0]
    scales = [x.scale[0] * s for s in np.resize(weight.scale, outputs)]
    packed = model.add(
        g.Tensor(f"{node.outputs[0]}:weight", data.shape, "int8", weight.scale, 0, np.ascontiguousarray(data))
    )
    bias = _bias(model, *(fused or (node, 2)), outputs, scales)
    y = onnx_reader.result(model, end.name, (*value.shape[:-1], outputs), PLAIN, end.scale, end.zero_point)
    factor = rescale_of(*(s / end.scale for s in scales))
    model.ops.append(
        g.Dense(
            name=node.name or end.name,
            inputs=(x.name, packed.name, bias),
            output=y.name,
            rescale=factor,
            clamp=end.clamp(),
        )
    )


def _dense_ending(model: Model, node: Node) -> tuple[onnx_reader.Ending, tuple[Node, int] | None]:
    """Where a product is quantized; an Add of a constant on the way (a MatMul's bias) is taken along."""
    users = model.consumers.get(node.outputs[0], [])
    if node.kind == "MatMul" and len(users) == 1 and users[0].kind == "Add":
        adder = users[0]
        position = 1 - adder.inputs.index(node.outputs[0])
        name = adder.inputs[position]
        held = model.values.get(name)
        if name in model.constants or (held and model.tensor(held).dtype == "int32"):
            model.done.add(id(adder))
            return onnx_reader.required_ending(model, adder), (adder, position)
    return onnx_reader.required_ending(model, node), None


def _matmul(model: Model, node: Node) -> None:
    values = [onnx_sums.operand(model, node, i) for i in (0, 1)]
    second = model.tensor(values[1])
    if second.data is not None and second.data.ndim == 2 and node.inputs[1] in model.values:
        _dense(model, node, _weight(model, node, 1), transposed=False)
        return
    left, right = (onnx_reader.as_plain(model, value) for value in values)
    a, b = model.tensor(left), model.tensor(right)
    if left.shape[:-2] != right.shape[:-2] or second.data is not None or a.data is not None:
        onnx_sums.product(model, node)
        return
    end = onnx_reader.required_ending(model, node)
    y = onnx_reader.result(model, end.name, (*left.shape[:-1], right.shape[-1]), PLAIN, end.scale, end.zero_point)
    factor = rescale_of(a.scale[0] * b.scale[0] / end.scale)
    model.ops.append(g.MatMul(name=node.name or end.name, inputs=(a.name, b.name), output=y.name, rescale=factor))


# --- pooling ------------------------------------------------------------------------------------------------------


def _pool(model: Model, node: Node, kind: str) -> None:
    value = onnx_reader.as_image(model, model.value(node, 0))
    x = model.tensor(value)
    if set(node.attributes.get("dilations", [1])) != {1} or node.attributes.get("ceil_mode", 0):
        raise model.refuse(node, "dilation or ceil_mode", "neither")
    kernel, stride = _spatial(node, "kernel_shape", 1), _spatial(node, "strides", 1)
    pads = _pads(model, node, (x.shape[1], x.shape[2]), kernel, stride, (1, 1))
    shape = _conv_shape(value.shape, value.shape[1], kernel, stride, (1, 1), pads)
    counted = bool(node.attributes.get("count_include_pad", 0))

    def emit(name: str) -> None:
        y = onnx_reader.result(model, name, shape, IMAGE, x.scale[0], x.zero_point)
        model.ops.append(
            g.Pool(
                name=node.name or name,
                inputs=(x.name,),
                output=y.name,
                kind="max" if kind == "max" else "average",
                kernel=kernel,
                stride=stride,
                pads=pads,
                count_padding=counted,
            )
        )

    onnx_moves.finish(model, node, x, emit)


def _average_pool(model: Model, node: Node) -> None:
    _pool(model, node, "average")


def _max_pool(model: Model, node: Node) -> None:
    _pool(model, node, "max")


def _global_max(model: Model, node: Node) -> None:
    sizes = model.value(node, 0).shape[2:]
    node.attributes = {"kernel_shape": list(sizes), "strides": [1] * len(sizes)}
    _pool(model, node, "max")


def _global_average(model: Model, node: Node) -> None:
    value = onnx_reader.as_image(model, model.value(node, 0))
    shape = (*value.shape[:2], *([1] * (len(value.shape) - 2)))
    _mean(model, node, value, shape, IMAGE)


def _mean(model: Model, node: Node, value: Value, shape: tuple[int, ...], layout: str) -> None:
    x = model.tensor(value)
    end = onnx_reader.ending(model, node)
    scale, zero, name = (end.scale, end.zero_point, end.name) if end else (x.scale[0], x.zero_point, node.outputs[0])
    y = onnx_reader.result(model, name, shape, layout, scale, zero)
    factor = rescale_of(x.scale[0] / scale / (x.size // x.shape[-1]))
    model.ops.append(g.Mean(name=node.name or name, inputs=(x.name,), output=y.name, rescale=factor))


def _reduce_mean(model: Model, node: Node) -> None:
    if node.inputs[0] not in model.values or onnx_sums.feeds_functions(model, node):
        onnx_sums.reduce(model, node)
        return
    value = model.value(node, 0)
    given = model.constant(node, 1)
    axes = given.tolist() if given is not None else list(node.attributes.get("axes", ()))
    rank = len(value.shape)
    axes = sorted(int(a) % rank for a in axes)
    keep = bool(node.attributes.get("keepdims", 1))
    over_image = axes == list(range(2, rank)) and value.layout == IMAGE
    over_steps = axes == [1] and rank == 3
    if not over_image and not over_steps:
        onnx_sums.reduce(model, node)
        return
    value = value if over_image else onnx_reader.as_plain(model, value)
    channels = value.shape[1] if over_image else value.shape[2]
    if not keep:
        _mean(model, node, value, (1, channels), PLAIN)
    else:
        _mean(
            model,
            node,
            value,
            (1, channels, *([1] * (rank - 2))) if over_image else (1, 1, channels),
            IMAGE if over_image else PLAIN,
        )


_CONVERTERS: dict[str, Converter] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "AveragePool": _average_pool,
    "MaxPool": _max_pool,
    "GlobalAveragePool": _global_average,
    "GlobalMaxPool": _global_max,
    **onnx_sums.CONVERTERS,
    "ReduceMean": _reduce_mean,
    **onnx_elementwise.CONVERTERS,
    **onnx_sequences.CONVERTERS,
    **onnx_moves.CONVERTERS,
}
