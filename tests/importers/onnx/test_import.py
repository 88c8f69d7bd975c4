"""What an imported file looks like from outside: layers, names, gradients, batches, options."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgepress.errors import UserError
from edgepress.importers.onnx import OnnxModel, Unsupported, load, to_module

Write = Callable[..., Path]
RNG = np.random.default_rng(7)


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def operators(model: OnnxModel) -> list[str]:
    return [node.target.name() for node in model.exported.graph.nodes if isinstance(node.target, torch._ops.OpOverload)]


def parameters(model: OnnxModel) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.module.named_parameters()}


def onnxruntime_outputs(path: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"]).run(None, feeds)


def check(path: Path, model: OnnxModel, feeds: dict[str, np.ndarray]) -> None:
    """The exported graph gives what onnxruntime gives."""
    with torch.no_grad():
        found = model.exported.module(check_guards=False)(
            *(torch.from_numpy(feeds[name]) for name in model.input_names)
        )
    for ours, theirs in zip(found, onnxruntime_outputs(path, feeds), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-5)


def test_gemm_and_matmul_become_linear_layers(write: Write) -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "net.0.weight", "net.0.bias"], ["a"], transB=1, alpha=2.0),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("MatMul", ["r", "onnx::MatMul_7"], ["m"], name="/head/MatMul"),
        helper.make_node("Add", ["net.2.bias", "m"], ["y"]),
    ]
    weights = {
        "net.0.weight": floats(5, 3),
        "net.0.bias": floats(5),
        "onnx::MatMul_7": floats(5, 2),
        "net.2.bias": floats(2),
    }
    path = write(nodes, {"x": ["batch", 3]}, ["y"], weights)
    model = to_module(path)
    assert operators(model).count("aten::linear") == 2
    assert not {"aten::matmul", "aten::add.Tensor"} & set(operators(model))
    assert parameters(model) == {
        "net.0.weight": (5, 3), "net.0.bias": (5,), "net.2.bias": (2,), "head_MatMul.weight": (2, 5),
    }  # fmt: skip
    check(path, model, {"x": floats(4, 3)})


def test_gradients_reach_every_parameter(write: Write) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "cb"], ["cc"]),
        helper.make_node("BatchNormalization", ["cc", "s", "b", "m", "v"], ["n"]),
        helper.make_node("PRelu", ["n", "slope"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "fw"], ["y"]),
    ]
    weights = {
        "w": floats(4, 2, 3, 3), "cb": floats(1, 4, 1, 1), "s": floats(4), "b": floats(4), "m": floats(4),
        "v": np.abs(floats(4)) + 1, "slope": floats(4, 1, 1), "fw": floats(4, 3),
    }  # fmt: skip
    path = write(nodes, {"x": ["n", 2, 6, 6]}, ["y"], weights)
    program = load(path)
    module = program.trainable()
    module(torch.randn(3, 2, 6, 6))[0].square().sum().backward()
    gradients = {name: p.grad for name, p in module.named_parameters()}
    assert len(gradients) == 6
    assert all(g is not None and torch.isfinite(g).all() and g.abs().sum() > 0 for g in gradients.values())
    model = to_module(path)
    assert operators(model) == [
        "aten::conv2d", "aten::batch_norm", "aten::prelu", "aten::adaptive_avg_pool2d", "aten::flatten.using_ints",
        "aten::linear",
    ]  # fmt: skip
    check(path, model, {"x": floats(2, 2, 6, 6)})


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_recurrent_layers_are_single_nodes(write: Write, kind: str, direction: str) -> None:
    gates, both = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind], 2 if direction == "bidirectional" else 1
    weights = {"W": floats(both, gates * 5, 3), "R": floats(both, gates * 5, 5), "B": floats(both, 2 * gates * 5)}
    extra = {"linear_before_reset": 1} if kind == "GRU" else {}
    node = helper.make_node(
        kind, ["x", "W", "R", "B"], ["y", "h"], name="rec", hidden_size=5, direction=direction, **extra
    )
    path = write([node], {"x": [7, "batch", 3]}, ["y", "h"], weights)
    model = to_module(path)
    wanted = {"LSTM": "aten::lstm.input", "GRU": "aten::gru.input", "RNN": "aten::rnn_tanh.input"}[kind]
    assert operators(model).count(wanted) == 1
    assert parameters(model)["rec.weight_ih"] == (gates * 5, 3)
    assert len(parameters(model)) == 4 * both
    check(path, model, {"x": floats(7, 2, 3)})


@pytest.mark.parametrize("attributes", [{"linear_before_reset": 0}, {"clip": 0.5, "linear_before_reset": 1}])
def test_recurrences_torch_does_not_have_are_unrolled(write: Write, attributes: dict) -> None:
    weights = {"W": floats(1, 15, 3), "R": floats(1, 15, 5), "B": floats(1, 30)}
    node = helper.make_node("GRU", ["x", "W", "R", "B"], ["y", "h"], hidden_size=5, **attributes)
    path = write([node], {"x": [4, "batch", 3]}, ["y", "h"], weights)
    model = to_module(path)
    assert "aten::gru.input" not in operators(model)
    check(path, model, {"x": floats(4, 3, 3)})


def layer_norm_nodes() -> list[onnx.NodeProto]:
    return [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[-1]),
        helper.make_node("Sub", ["x", "m"], ["d"]),
        helper.make_node("Pow", ["d", "two"], ["p"]),
        helper.make_node("ReduceMean", ["p"], ["v"], axes=[-1]),
        helper.make_node("Add", ["v", "eps"], ["e"]),
        helper.make_node("Sqrt", ["e"], ["s"]),
        helper.make_node("Div", ["d", "s"], ["q"]),
        helper.make_node("Mul", ["q", "g"], ["k"]),
        helper.make_node("Add", ["k", "b"], ["n"]),
    ]


LAYER_NORM = {"two": np.float32(2), "eps": np.float32(1e-5), "g": floats(6), "b": floats(6)}


def test_layer_norm_and_gelu_are_recognised(write: Write) -> None:
    nodes = [
        *layer_norm_nodes(),
        helper.make_node("Div", ["n", "root"], ["i"]),
        helper.make_node("Erf", ["i"], ["f"]),
        helper.make_node("Add", ["f", "one"], ["o"]),
        helper.make_node("Mul", ["n", "o"], ["h"]),
        helper.make_node("Mul", ["h", "half"], ["y"]),
    ]
    weights = {**LAYER_NORM, "root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}
    path = write(nodes, {"x": ["batch", 4, 6]}, ["y"], weights)
    model = to_module(path)
    assert operators(model) == ["aten::layer_norm", "aten::gelu"]
    check(path, model, {"x": floats(2, 4, 6)})


def test_a_layer_norm_whose_inside_is_read_elsewhere_stays_as_it_is(write: Write) -> None:
    path = write(layer_norm_nodes(), {"x": ["batch", 4, 6]}, ["n", "d"], LAYER_NORM)
    model = to_module(path)
    assert "aten::layer_norm" not in operators(model)
    check(path, model, {"x": floats(2, 4, 6)})


def test_tied_weights_stay_one_parameter(write: Write) -> None:
    nodes = [helper.make_node("Gemm", ["x", "tied"], ["a"]), helper.make_node("Gemm", ["a", "tied"], ["y"])]
    model = to_module(write(nodes, {"x": ["batch", 3]}, ["y"], {"tied": floats(3, 3)}))
    assert len(parameters(model)) == 1


def test_initialisers_that_are_also_inputs_are_weights(write: Write) -> None:
    path = write(
        [helper.make_node("Gemm", ["x", "w"], ["y"])], {"x": [1, 3]}, ["y"], {"w": floats(3, 2)}, also_inputs=True
    )
    model = to_module(path)
    assert model.input_names == ("x",)
    assert len(parameters(model)) == 1


def test_normalisation_of_the_data_is_not_trained(write: Write) -> None:
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["c"]),
        helper.make_node("Conv", ["c", "w"], ["d"]),
        helper.make_node("Mul", ["d", "layer_scale"], ["y"]),
    ]
    weights = {"mean": floats(1, 3, 1, 1), "w": floats(4, 3, 1, 1), "layer_scale": floats(1, 4, 1, 1)}
    model = to_module(write(nodes, {"x": ["batch", 3, 5, 5]}, ["y"], weights))
    assert sorted(parameters(model).values()) == [(1, 4, 1, 1), (4, 3, 1, 1)]


def test_a_fixed_batch_is_opened(write: Write) -> None:
    """Channel shuffle and classifier with the batch of 1 built into both reshapes."""
    nodes = [
        helper.make_node("Reshape", ["x", "pairs"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["b", "flat"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["y"]),
    ]
    weights = {"pairs": np.array([1, 2, 3, 4]), "flat": np.array([1, 24]), "w": floats(24, 2)}
    model = to_module(write(nodes, {"x": [1, 6, 4]}, ["y"], weights))
    assert list(model.dynamic_shapes[0][0]) == [0]
    module = model.exported.module(check_guards=False)
    x = torch.randn(5, 6, 4)
    together = module(x)[0]
    assert torch.allclose(together, torch.cat([module(x[i : i + 1])[0] for i in range(5)]), atol=1e-6)


def test_a_batch_that_mixes_samples_stays_fixed(write: Write) -> None:
    nodes = [helper.make_node("ReduceMean", ["x"], ["y"], axes=[0, 1])]
    model = to_module(write(nodes, {"x": [1, 4]}, ["y"]))
    assert model.dynamic_shapes == (({},),)
    assert any("the batch stays fixed at 1" in note for note in model.notes)


def test_batch_and_sequence_stay_open(write: Write) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "both"], ["n"]),
        helper.make_node("Concat", ["n", "tail"], ["t"], axis=0),
        helper.make_node("Reshape", ["x", "t"], ["y"]),
    ]
    weights = {"both": np.array([0, 1]), "tail": np.array([2, 3])}
    path = write(nodes, {"x": ["batch", "seq", 6]}, ["y"], weights)
    model = to_module(path)
    assert list(model.dynamic_shapes[0][0]) == [0, 1]
    for batch, length in ((1, 1), (5, 9)):
        check(path, model, {"x": floats(batch, length, 6)})


def test_image_sizes_are_fixed_unless_asked(write: Write) -> None:
    path = write([helper.make_node("Relu", ["x"], ["y"])], {"x": ["n", 3, "height", "width"]}, ["y"])
    assert list(to_module(path).dynamic_shapes[0][0]) == [0]
    assert list(to_module(path, dynamic="all").dynamic_shapes[0][0]) == [0, 2, 3]
    assert to_module(path, dynamic="none", shapes={"x": (1, 3, 8, 9)}).example_inputs[0].shape == (1, 3, 8, 9)
    with pytest.raises(UserError, match="cannot have the given shape"):
        to_module(path, shapes={"x": (1, 4, 8, 9)})


def branching(write: Write, shapes: tuple[int, int] = (4, 4)) -> Path:
    branches = [
        helper.make_graph(
            [helper.make_node("Gemm", ["x", f"w{i}"], [f"o{i}"])],
            f"b{i}",
            [],
            [helper.make_empty_tensor_value_info(f"o{i}")],
        )
        for i in range(2)
    ]
    nodes = [
        helper.make_node("Equal", ["rate", "wide"], ["c"]),
        helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]
    weights = {"wide": np.int64(16000), "w0": floats(3, shapes[0]), "w1": floats(3, shapes[1])}
    return write(nodes, {"x": ["batch", 3], "rate": (TensorProto.INT64, [])}, ["y"], weights)


def test_an_if_on_an_input_keeps_both_branches(write: Write) -> None:
    path = branching(write)
    model = to_module(path)
    for rate in (16000, 8000):
        check(path, model, {"x": floats(2, 3), "rate": np.array(rate)})


def test_a_bound_input_resolves_the_if(write: Write) -> None:
    path = branching(write, (4, 5))
    with pytest.raises(Unsupported, match="different shapes"):
        to_module(path)
    model = to_module(path, bind={"rate": 8000})
    assert model.input_names == ("x",)
    assert operators(model) == ["aten::linear"]
    assert model.module(torch.zeros(2, 3))[0].shape == (2, 5)
    with pytest.raises(UserError, match="cannot bind 'speed'"):
        to_module(path, bind={"speed": 1})


def test_float16_is_widened_and_said_so(write: Write) -> None:
    nodes = [helper.make_node("Gemm", ["x", "w"], ["y"])]
    weights = {"w": floats(3, 2).astype(np.float16)}
    path = write(nodes, {"x": (TensorProto.FLOAT16, ["batch", 3])}, ["y"], weights)
    model = to_module(path)
    assert model.example_inputs[0].dtype == torch.float32
    assert "float16" in model.notes[0]


def test_weights_in_constant_nodes_are_parameters(write: Write) -> None:
    tensor = numpy_helper.from_array(floats(3, 2))
    nodes = [
        helper.make_node("Constant", [], ["w"], value=tensor),
        helper.make_node("MatMul", ["x", "w"], ["y"], name="fc"),
    ]
    model = to_module(write(nodes, {"x": ["batch", 3]}, ["y"]))
    assert parameters(model) == {"fc.weight": (2, 3)}


def test_random_outputs_are_named(write: Write) -> None:
    nodes = [helper.make_node("RandomNormalLike", ["x"], ["r"]), helper.make_node("Relu", ["x"], ["y"])]
    model = to_module(write(nodes, {"x": ["batch", 3]}, ["r", "y"]))
    assert [note for note in model.notes if "random" in note] == [
        "output 'r' is random: it cannot be compared with another runtime"
    ]


def quantized_nodes() -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        helper.make_node("DequantizeLinear", ["b", "bs"], ["bd"]),
        helper.make_node("Conv", ["xd", "wd", "bd"], ["y"]),
    ]
    weights = {
        "xs": np.float32(0.05), "xz": np.uint8(120), "w": RNG.integers(-127, 128, (4, 2, 3, 3)).astype(np.int8),
        "ws": np.abs(floats(4)) + 0.01, "wz": np.zeros(4, np.int8), "b": RNG.integers(-99, 99, 4).astype(np.int32),
        "bs": np.float32(0.01),
    }  # fmt: skip
    return nodes, weights


def test_a_qdq_file_is_a_fake_quantized_network(write: Write) -> None:
    nodes, weights = quantized_nodes()
    path = write(nodes, {"x": ["n", 2, 6, 6]}, ["y"], weights)
    model = to_module(path)
    assert sorted(parameters(model).values()) == [(4,), (4, 2, 3, 3)]
    assert {name for name in operators(model) if name.startswith("quantized_decomposed")} == {
        "quantized_decomposed::quantize_per_tensor", "quantized_decomposed::dequantize_per_tensor",
        "quantized_decomposed::quantize_per_channel", "quantized_decomposed::dequantize_per_channel",
    }  # fmt: skip
    assert any("quantized already" in note for note in model.notes)
    check(path, model, {"x": floats(2, 2, 6, 6)})
    assert load(path).history[1].startswith("onnx: the file is quantized already")


def test_a_qoperator_file_is_a_fake_quantized_network(write: Write) -> None:
    weights = {
        "xs": np.float32(0.05), "xz": np.uint8(120), "w": RNG.integers(-127, 128, (4, 2, 3, 3)).astype(np.int8),
        "ws": np.abs(floats(4)) / 100 + 0.001, "wz": np.zeros(4, np.int8), "ys": np.float32(0.1), "yz": np.uint8(128),
        "b": RNG.integers(-99, 99, 4).astype(np.int32),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node("QLinearConv", ["xq", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "ys", "yz"], ["y"]),
    ]
    path = write(nodes, {"x": ["n", 2, 6, 6]}, ["y"], weights)
    model = to_module(path)
    assert operators(model).count("aten::conv2d") == 1
    assert sorted(parameters(model).values()) == [(4,), (4, 2, 3, 3)]
    feeds = {"x": floats(2, 2, 6, 6)}
    with torch.no_grad():
        ours = model.exported.module(check_guards=False)(torch.from_numpy(feeds["x"]))[0].numpy()
    # Integer and float arithmetic may round a tie differently: at most one step of the output grid, and rarely.
    steps = np.abs(ours - onnxruntime_outputs(path, feeds)[0]) / 0.1
    assert steps.max() <= 1.001
    assert (steps > 0.5).mean() < 0.02


def test_layers_that_share_an_integer_bias_read_it_on_their_own_grids(write: Write) -> None:
    def layer(x: str, scale: str, y: str) -> onnx.NodeProto:
        return helper.make_node("QLinearConv", [x, scale, "zero", "w", "sw", "zw", "sy", "zero", "bias"], [y])

    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s1", "zero"], ["q1"]),
        helper.make_node("QuantizeLinear", ["x", "s2", "zero"], ["q2"]),
        layer("q1", "s1", "y1"),
        layer("q2", "s2", "y2"),
        *(helper.make_node("DequantizeLinear", [f"y{i}", "sy", "zero"], [f"o{i}"]) for i in (1, 2)),
    ]
    weights = {"s1": np.float32(0.02), "s2": np.float32(0.05), "zero": np.uint8(128), "sy": np.float32(0.1),
               "sw": np.float32(0.01), "zw": np.int8(0), "bias": np.array([900, -700], np.int32),
               "w": RNG.integers(-90, 90, (2, 3, 1, 1)).astype(np.int8)}  # fmt: skip
    path = write(nodes, {"x": (1, 3, 4, 4)}, ["o1", "o2"], weights)
    check(path, to_module(path, dynamic="none"), {"x": floats(1, 3, 4, 4)})


def test_qonnx_quantizers_keep_their_gradient(write: Write) -> None:
    nodes = [
        helper.make_node("Quant", ["w", "s", "z", "bits"], ["q"], domain="onnx.brevitas", signed=1, narrow=0),
        helper.make_node("MatMul", ["x", "q"], ["y"]),
    ]
    weights = {"w": floats(3, 2), "s": np.float32(0.5), "z": np.float32(0), "bits": np.float32(2)}
    model = to_module(write(nodes, {"x": ["batch", 3]}, ["y"], weights, domains=["onnx.brevitas"]))
    (weight,) = model.module.parameters()
    module = model.exported.module(check_guards=False)
    grid = np.clip(np.round(weights["w"] / 0.5), -2, 1) * 0.5
    np.testing.assert_allclose(module(torch.eye(3))[0].detach().numpy(), grid, atol=1e-6)
    module(torch.eye(3))[0].sum().backward()
    inside = torch.from_numpy((weights["w"] / 0.5 >= -2) & (weights["w"] / 0.5 <= 1)).float()
    gradient = next(module.parameters()).grad
    assert gradient is not None
    assert torch.equal(gradient, inside)
    assert weight.shape == (3, 2)


def test_non_maximum_suppression_exports(write: Write) -> None:
    nodes = [helper.make_node("NonMaxSuppression", ["boxes", "scores", "top", "iou", "least"], ["y"])]
    weights = {"top": np.array([3]), "iou": np.float32([0.5]), "least": np.float32([0.1])}
    path = write(nodes, {"boxes": [1, 20, 4], "scores": [1, 2, 20]}, ["y"], weights)
    model = to_module(path, dynamic="none")
    feeds = {"boxes": RNG.random((1, 20, 4)).astype(np.float32), "scores": RNG.random((1, 2, 20)).astype(np.float32)}
    check(path, model, feeds)


def test_a_node_that_does_not_fit_is_named(write: Write) -> None:
    path = write(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="bad")], {"x": ["batch", 3]}, ["y"], {"w": floats(4, 2)}
    )
    with pytest.raises(UserError, match="node 'bad'") as caught:
        to_module(path)
    assert "[2, 3]" in str(caught.value)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("rule", ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])
@pytest.mark.parametrize("scale", [2.0, 1.5, 0.6])
def test_resize_matches_onnxruntime(write: Write, mode: str, rule: str, scale: float) -> None:
    attributes = {"mode": mode, "coordinate_transformation_mode": rule, "nearest_mode": "floor"}
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], **attributes)
    path = write([node], {"x": ["n", 2, 7, 9]}, ["y"], {"scales": np.float32([1, 1, scale, scale])})
    check(path, to_module(path), {"x": floats(2, 2, 7, 9)})


@pytest.mark.parametrize("pads", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kind", ["Conv", "AveragePool", "MaxPool"])
def test_automatic_padding_matches_onnxruntime(write: Write, pads: str, stride: int, kind: str) -> None:
    attributes = {"auto_pad": pads, "strides": [stride, stride], "kernel_shape": [3, 4]}
    inputs = ["x", "w"] if kind == "Conv" else ["x"]
    weights = {"w": floats(5, 2, 3, 4)} if kind == "Conv" else {}
    path = write([helper.make_node(kind, inputs, ["y"], **attributes)], {"x": ["n", 2, 10, 11]}, ["y"], weights)
    check(path, to_module(path), {"x": floats(3, 2, 10, 11)})


BOUNDS = {
    "Max then Min": ([("Max", ["x", "zero"], "a"), ("Min", ["a", "six"], "y")], "relu6"),
    "Min then Max, constants first": ([("Min", ["six", "x"], "a"), ("Max", ["zero", "a"], "y")], "relu6"),
    "Relu then Min": ([("Relu", ["x"], "a"), ("Min", ["a", "six"], "y")], "relu6"),
    "Max alone": ([("Max", ["x", "zero"], "y")], "relu"),
    "other numbers": ([("Max", ["x", "low"], "a"), ("Min", ["a", "six"], "y")], "hardtanh"),
    "bounds in the wrong order": ([("Min", ["x", "low"], "a"), ("Max", ["a", "zero"], "y")], "clamp"),
    "a constant of higher rank": ([("Max", ["x", "deep"], "y")], "relu"),
}


@pytest.mark.parametrize("case", BOUNDS)
def test_bounds_become_the_activation_they_are(write: Write, case: str) -> None:
    chain, activation = BOUNDS[case]
    nodes = [helper.make_node(kind, inputs, [output]) for kind, inputs, output in chain]
    weights = {"zero": np.float32(0), "six": np.array([6], np.float32), "low": np.float32(-1.5),
               "deep": np.zeros((1, 1, 1, 1), np.float32)}  # fmt: skip
    used = {name for _, inputs, _ in chain for name in inputs}
    path = write(nodes, {"x": (2, 3)}, ["y"], {k: v for k, v in weights.items() if k in used})
    model = to_module(path)
    assert next(name.removeprefix("aten::") for name in operators(model)) == activation
    check(path, model, {"x": 8 * floats(2, 3)})


def test_bounds_that_are_read_in_between_stay_apart(write: Write) -> None:
    nodes = [helper.make_node("Max", ["x", "zero"], ["a"]), helper.make_node("Min", ["a", "six"], ["b"]),
             helper.make_node("Add", ["a", "b"], ["y"])]  # fmt: skip
    path = write(nodes, {"x": (2, 3)}, ["y"], {"zero": np.float32(0), "six": np.float32(6)})
    check(path, to_module(path), {"x": 8 * floats(2, 3)})
