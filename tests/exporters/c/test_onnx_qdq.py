"""QDQ models: what the integer graph computes against onnxruntime, layouts, and every refusal."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from edgepress.errors import UserError
from edgepress.exporters.c import Options, export, interpret
from edgepress.exporters.c import graph as g
from edgepress.exporters.c.export import read_graph, reference

Nodes = list[onnx.NodeProto]


def constant(name: str, *shape: int, seed: int = 0, spread: float = 0.3) -> onnx.TensorProto:
    values = np.random.default_rng(seed + sum(map(ord, name))).normal(0, spread, shape)
    return numpy_helper.from_array(values.astype(np.float32), name)


def ints(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def model(nodes: Nodes, constants: list[onnx.TensorProto], shape: tuple[int, ...], out: str) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info(out, TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "net", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, shape: tuple[int, ...]) -> None:
        draw = np.random.default_rng(0)
        self.rows = iter([{"x": draw.normal(0, 1, shape).astype(np.float32)} for _ in range(8)])

    def get_next(self) -> dict[str, Any] | None:
        return next(self.rows, None)


Quantize = Callable[..., Path]


@pytest.fixture
def quantized(tmp_path: Path) -> Quantize:
    """Quantize a float model statically (onnxruntime), per-channel weights."""

    def run(float_model: onnx.ModelProto, shape: tuple[int, ...], activations: QuantType = QuantType.QInt8) -> Path:
        source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
        onnx.save(float_model, source)
        options = {"quant_format": QuantFormat.QDQ, "per_channel": True, "weight_type": QuantType.QInt8}
        quantize_static(source, target, Calibration(shape), activation_type=activations, **options)
        return target

    return run


def conv_net(softmax: bool = True) -> onnx.ModelProto:
    """Convolution, depthwise, residual addition, stride, pooling, dense, softmax."""
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], name="depthwise", pads=[1, 1, 1, 1], group=8),
        helper.make_node("Clip", ["c1", "zero", "six"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="point"),
        helper.make_node("Add", ["c2", "r0"], ["sum"], name="residual"),
        helper.make_node("Conv", ["sum", "w3", "b3"], ["c3"], name="down", strides=[2, 2], auto_pad="SAME_UPPER"),
        helper.make_node("Relu", ["c3"], ["r3"]),
        helper.make_node("MaxPool", ["r3"], ["m"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["m"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "w4", "b4"], ["logits" if softmax else "y"], name="dense", transB=1),
        *([helper.make_node("Softmax", ["logits"], ["y"], name="softmax")] if softmax else []),
    ]
    zero, six = (numpy_helper.from_array(np.array(v, np.float32), n) for v, n in ((0, "zero"), (6, "six")))
    constants = [
        zero,
        six,
        constant("w0", 8, 3, 3, 3),
        constant("b0", 8),
        constant("w1", 8, 1, 3, 3),
        constant("b1", 8),
    ]
    constants += [constant("w2", 8, 8, 1, 1), constant("b2", 8), constant("w3", 12, 8, 3, 3), constant("b3", 12)]
    constants += [constant("w4", 5, 12 * 3 * 2), constant("b4", 5)]
    return model(nodes, constants, (1, 3, 13, 10), "y")


def largest_difference(path: Path, shape: tuple[int, ...], count: int = 20) -> float:
    """Of the outputs, in units of the last integer, over random inputs: the integer graph against onnxruntime."""
    graph = read_graph(path)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x, y = graph.tensor(graph.inputs[0]), graph.tensor(graph.outputs[0])
    draw, worst = np.random.default_rng(1), 0.0
    for _ in range(count):
        real = draw.normal(0, 1, shape).astype(np.float32)
        codes = np.clip(np.rint(real / np.float32(x.scale[0])) + x.zero_point, -128, 127)
        held = np.moveaxis(codes, 1, -1) if len(x.shape) == 4 else codes
        ours = interpret.outputs(graph, {graph.inputs[0]: held})[0]
        theirs = session.run(None, {"x": real})[0]
        worst = max(worst, float(np.abs((ours - y.zero_point) * y.scale[0] - theirs).max()) / y.scale[0])
    return worst


@pytest.mark.parametrize("activations", [QuantType.QInt8, QuantType.QUInt8])
def test_a_convolutional_network_agrees_with_onnxruntime_to_a_few_steps(
    quantized: Quantize, activations: QuantType
) -> None:
    shape = (1, 3, 13, 10)
    path = quantized(conv_net(softmax=False), shape, activations)
    assert largest_difference(path, shape) <= 3


def test_softmax_follows_within_what_a_step_of_the_logits_makes(quantized: Quantize) -> None:
    shape = (1, 3, 13, 10)
    path = quantized(conv_net(), shape)
    graph = read_graph(path)
    dense = next(op for op in graph.ops if isinstance(op, g.Dense))
    step = graph.tensor(dense.output).scale[0]  # d softmax <= 1/4 d logit; three steps between the two arithmetics
    assert largest_difference(path, shape) <= 2 + 3 * step / 4 / graph.tensor(graph.outputs[0]).scale[0]


def test_the_generated_c_equals_the_reference(quantized: Quantize, host_runner: Any, tmp_path: Path) -> None:
    path = quantized(conv_net(), (1, 3, 13, 10))
    artifact = export(path, tmp_path / "c", options=Options(target="host"))
    graph = read_graph(path)
    rows = np.random.default_rng(2).integers(-128, 128, (50, graph.tensor(graph.inputs[0]).size)).astype(np.int8)
    np.testing.assert_array_equal(host_runner(artifact)(rows), np.stack([reference(graph, row) for row in rows]))


def test_a_flattened_image_costs_no_transposition(quantized: Quantize) -> None:
    graph = read_graph(quantized(conv_net(), (1, 3, 13, 10)))
    assert not [op for op in graph.ops if isinstance(op, g.Transpose)]
    assert graph.tensor(graph.inputs[0]).shape == (1, 13, 10, 3)


UNARY = ["Sigmoid", "Tanh", "HardSigmoid", "LeakyRelu", "Elu", "Softplus", "Relu"]


@pytest.mark.parametrize("kind", UNARY)
def test_unary_functions_become_tables(quantized: Quantize, kind: str) -> None:
    shape = (1, 4, 6, 6)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"]),
        helper.make_node("Add", ["c", "c"], ["s"]),
        helper.make_node(kind, ["s"], ["u"], name=kind.lower()),
        helper.make_node("Conv", ["u", "w", "b"], ["y"]),
    ]
    net = model(nodes, [constant("w", 4, 4, 1, 1), constant("b", 4)], shape, "y")
    assert largest_difference(quantized_all(quantized, net, shape), shape) <= 4


def quantized_all(quantized: Quantize, net: onnx.ModelProto, shape: tuple[int, ...]) -> Path:
    """Quantize, then put Q/DQ behind the activations that onnxruntime leaves in float."""
    path = quantized(net, shape)
    proto = onnx.load(path)
    changed = True
    while changed:
        changed = False
        consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in proto.graph.node:
            for name in node.input:
                consumers.setdefault(name, []).append(node)
        for position, node in enumerate(proto.graph.node):
            users = consumers.get(node.output[0], [])
            if node.op_type in ("QuantizeLinear", "DequantizeLinear") or not users:
                continue
            if any(user.op_type == "QuantizeLinear" for user in users) or (
                len(users) == 1 and users[0].op_type in ("Relu", "Clip")
            ):
                continue
            name = node.output[0]
            proto.graph.initializer.append(numpy_helper.from_array(np.float32(0.05), f"{name}_s"))
            proto.graph.initializer.append(numpy_helper.from_array(np.int8(-20), f"{name}_z"))
            pair = [
                helper.make_node("QuantizeLinear", [name, f"{name}_s", f"{name}_z"], [f"{name}_q"]),
                helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_s", f"{name}_z"], [f"{name}_dq"]),
            ]
            for user in users:
                user.input[:] = [f"{name}_dq" if given == name else given for given in user.input]
            for offset, extra in enumerate(pair):
                proto.graph.node.insert(position + 1 + offset, extra)
            changed = True
            break
    onnx.save(proto, path)
    return path


def test_concat_slice_pad_resize_and_global_pooling(quantized: Quantize) -> None:
    shape = (1, 3, 8, 8)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Slice", ["c", "from", "to", "axes"], ["half"], name="slice"),
        helper.make_node("Concat", ["c", "half"], ["both"], axis=1, name="concat"),
        helper.make_node("Resize", ["both", "", "scales"], ["large"], name="resize", nearest_mode="floor",
                         coordinate_transformation_mode="asymmetric"),
        helper.make_node("Pad", ["large", "pads"], ["wide"], name="pad"),
        helper.make_node("AveragePool", ["wide"], ["a"], name="average", kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["a"], ["gap"], name="gap"),
        helper.make_node("Conv", ["gap", "v", "b"], ["y"], name="last"),
    ]  # fmt: skip
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    constants = [constant("w", 4, 3, 3, 3), constant("b", 4), constant("v", 4, 6, 1, 1), scales]
    constants += [ints("from", 1), ints("to", 3), ints("axes", 1), ints("pads", 0, 0, 1, 0, 0, 0, 0, 2)]
    path = quantized_all(quantized, model(nodes, constants, shape, "y"), shape)
    graph = read_graph(path)
    assert {type(op).__name__ for op in graph.ops} >= {"Slice", "Concat", "Resize", "Pad", "Pool", "Mean"}
    assert largest_difference(path, shape) <= 4


def test_one_dimensional_convolution_and_mean_over_time(quantized: Quantize) -> None:
    shape = (1, 4, 32)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[2, 2], strides=[2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "v", "d"], ["e"], dilations=[2]),
        helper.make_node("GlobalAveragePool", ["e"], ["gap"]),
        helper.make_node("Conv", ["gap", "u", "d"], ["y"]),
    ]
    constants = [
        constant("w", 8, 4, 5),
        constant("b", 8),
        constant("v", 6, 8, 3),
        constant("d", 6),
        constant("u", 6, 6, 1),
    ]
    path = quantized_all(quantized, model(nodes, constants, shape, "y"), shape)
    graph = read_graph(path)
    assert graph.tensor(graph.inputs[0]).shape == (1, 1, 32, 4)


def edited(path: Path, edit: Callable[[onnx.ModelProto], None]) -> Path:
    proto = onnx.load(path)
    edit(proto)
    onnx.save(proto, path)
    return path


def refused(path: Path, out: Path) -> str:
    with pytest.raises(UserError) as caught:
        export(path, out)
    assert not out.exists(), "something was written before the refusal"
    return str(caught.value)


def test_an_unknown_operator_is_refused_by_name(quantized: Quantize, tmp_path: Path) -> None:
    def rename(proto: onnx.ModelProto) -> None:
        next(n for n in proto.graph.node if n.op_type == "MaxPool").op_type = "LpPool"

    text = refused(edited(quantized(conv_net(), (1, 3, 13, 10)), rename), tmp_path / "c")
    assert "pool" in text and "LpPool" in text


def test_a_float_model_is_refused(tmp_path: Path) -> None:
    onnx.save(conv_net(), tmp_path / "float.onnx")
    text = refused(tmp_path / "float.onnx", tmp_path / "c")
    assert "is a float network" in text and "targets: [cortex-m4]" in text


def test_asymmetric_weights_are_refused(quantized: Quantize, tmp_path: Path) -> None:
    def shift(proto: onnx.ModelProto) -> None:
        for entry in proto.graph.initializer:
            if entry.name == "w0_zero_point":
                entry.CopyFrom(numpy_helper.from_array(np.full(8, 3, np.int8), entry.name))

    assert "symmetric" in refused(edited(quantized(conv_net(), (1, 3, 13, 10)), shift), tmp_path / "c")


def test_an_unquantized_output_is_refused(quantized: Quantize, tmp_path: Path) -> None:
    def cut(proto: onnx.ModelProto) -> None:
        last = next(n for n in proto.graph.node if n.op_type == "Softmax")
        following = [n for n in proto.graph.node if last.output[0] in n.input]
        for node in following:
            dequantize = next(n for n in proto.graph.node if node.output[0] in n.input)
            proto.graph.node.remove(dequantize)
            proto.graph.node.remove(node)
        last.output[0] = proto.graph.output[0].name

    assert "softmax" in refused(edited(quantized(conv_net(), (1, 3, 13, 10)), cut), tmp_path / "c")


def test_files_that_are_no_models_are_refused(tmp_path: Path) -> None:
    for name, content in (("a.onnx", b"nonsense"), ("b.tflite", b"nonsense"), ("c.txt", b"")):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, tmp_path / "out")
    refused(tmp_path / "absent.onnx", tmp_path / "out")
