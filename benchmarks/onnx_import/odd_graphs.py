"""Small networks as no exporter of torch writes them: other converters' habits, old opsets, odd but valid files."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
PICTURE: dict[str, Any] = {"x": (FLOAT, ["N", 3, 16, 16])}
ROW: dict[str, Any] = {"x": (FLOAT, ["N", 8])}


class Graph:
    """A graph that is written node by node; weights are drawn where they are named."""

    def __init__(self, inputs: dict[str, tuple[int, Sequence[Any] | None]], opset: int = 13, ir: int = 8) -> None:
        self.draw = np.random.default_rng(7)
        self.inputs, self.opset, self.ir, self.count = inputs, opset, ir, 0
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []
        self.functions: list[onnx.FunctionProto] = []
        self.domains: dict[str, int] = {}
        self.named, self.constants, self.also_inputs = True, False, False

    def fresh(self, hint: str) -> str:
        """A name that is not taken."""
        self.count += 1
        return f"{hint}_{self.count}"

    def random(self, *shape: int, scale: float = 0.3) -> str:
        """A weight of normal numbers."""
        return self.value((self.draw.normal(size=shape) * scale).astype(np.float32))

    def value(self, array: Any, name: str = "") -> str:
        """A stored tensor, as initialiser or as a Constant node."""
        tensor = numpy_helper.from_array(np.asarray(array), name or self.fresh("w"))
        if self.constants:
            self.nodes.append(helper.make_node("Constant", [], [tensor.name], value=tensor))
        else:
            self.stored.append(tensor)
        return tensor.name

    def add(self, kind: str, *inputs: str, outputs: Sequence[str] = (), domain: str = "", **attributes: Any) -> str:
        """A node; returns its first output."""
        made = list(outputs) or [self.fresh(kind.lower())]
        name = self.fresh(f"{kind}_node") if self.named else ""
        self.nodes.append(helper.make_node(kind, list(inputs), made, name=name, domain=domain, **attributes))
        return made[0]

    def conv(self, x: str, inputs: int, outputs: int, size: int = 3, *, bias: bool = True, **attributes: Any) -> str:
        """A convolution that keeps height and width, unless `attributes` say otherwise."""
        group = attributes.get("group", 1)
        weights = [self.random(outputs, inputs // group, size, size), *([self.random(outputs)] if bias else [])]
        return self.add("Conv", x, *weights, **{"pads": [size // 2] * 4, **attributes})

    def norm(self, x: str, channels: int, **attributes: Any) -> str:
        """A batch norm with statistics that change what passes."""
        spread = self.value((self.draw.random(channels) + 0.5).astype(np.float32))
        moments = [self.random(channels), self.random(channels), self.random(channels), spread]
        return self.add("BatchNormalization", x, *moments, **attributes)

    def sliced(self, x: str, start: int, end: int) -> str:
        """Axis 1 from start to end."""
        return self.add("Slice", x, *(self.value(np.array([n])) for n in (start, end, 1)))

    def head(self, x: str, channels: int, outputs: int = 4, last: str = "y") -> str:
        """The mean over the picture, and a layer."""
        flat = self.add("Flatten", self.add("GlobalAveragePool", x))
        return self.add("Gemm", flat, self.random(outputs, channels), self.random(outputs), outputs=[last], transB=1)

    def model(self, *outputs: str) -> onnx.ModelProto:
        """The file."""
        entries = [helper.make_tensor_value_info(name, *declared) for name, declared in self.inputs.items()]
        if self.also_inputs:
            entries += [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in self.stored]
        results = [helper.make_empty_tensor_value_info(name) for name in outputs]
        graph = helper.make_graph(self.nodes, "g", entries, results, self.stored)
        imports = [helper.make_opsetid(d, v) for d, v in {"": self.opset, **self.domains}.items()]
        return helper.make_model(graph, opset_imports=imports, ir_version=self.ir, functions=self.functions)


def keras() -> onnx.ModelProto:
    """Channels last: transposed before and after each layer, biases added to the last axis (as tf2onnx writes)."""
    g = Graph({"x": (FLOAT, ["unk__1", 16, 16, 3])})
    x, channels = "x", 3
    for wide in (8, 16):
        x = g.add("Transpose", x, perm=[0, 3, 1, 2])
        x = g.conv(x, channels, wide, bias=False, auto_pad="SAME_UPPER", strides=[2, 2], pads=[0] * 4)
        x = g.add("Add", g.add("Transpose", x, perm=[0, 2, 3, 1]), g.random(1, 1, 1, wide))
        x = g.add("Mul", x, g.random(wide))
        x, channels = g.add("Relu", x), wide
    x = g.add("ReduceMean", x, axes=[1, 2], keepdims=0)
    x = g.add("Add", g.add("MatMul", x, g.random(16, 5)), g.random(5))
    g.add("Softmax", x, outputs=["y"])
    model = g.model("y")
    for node in model.graph.node:  # attributes that contradict one another are not written
        if any(a.name == "auto_pad" for a in node.attribute):
            kept = [a for a in node.attribute if a.name != "pads"]
            del node.attribute[:]
            node.attribute.extend(kept)
    return model


def keras_lstm() -> onnx.ModelProto:
    """Rows in, turned to time first for the layer and back, the state squeezed out of its directions."""
    g = Graph({"x": (FLOAT, ["unk__1", 12, 6])}, opset=11)
    x = g.add("Transpose", "x", perm=[1, 0, 2])
    x = g.add("LSTM", x, g.random(1, 40, 6), g.random(1, 40, 10), g.random(1, 80), hidden_size=10)
    x = g.add("Transpose", g.add("Squeeze", x, axes=[1]), perm=[1, 0, 2])
    last = g.add("Squeeze", g.sliced(x, -1, 2**31 - 1), axes=[1])
    g.add("Sigmoid", g.add("Add", g.add("MatMul", last, g.random(10, 2)), g.random(2)), outputs=["y"])
    return g.model("y")


def caffe(opset: int = 6) -> onnx.ModelProto:
    """Opset 6: weights among the inputs, spatial norms with test flags, Upsample with sizes, Reshape by a constant."""
    g = Graph({"x": (FLOAT, [1, 3, 16, 16])}, opset=opset, ir=3)
    g.also_inputs = True
    old: dict[str, Any] = {"is_test": 1} if opset < 7 else {}
    x = g.add("Relu", g.norm(g.conv("x", 3, 8), 8, spatial=1, epsilon=1e-3, **old))
    x = g.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = g.add("LRN", g.add("LeakyRelu", g.conv(x, 8, 8, group=2), alpha=0.1), size=3)
    x = x if old else g.add("Dropout", x, ratio=0.4)  # the reference evaluator has none for version 6
    x = g.add("Reshape", x, g.value(np.array([1, 512])))
    x = g.add("Gemm", x, g.random(512, 6, scale=0.05), g.random(6), **({"broadcast": 1} if old else {}))
    g.add("Softmax", x, outputs=["y"], axis=1)
    return g.model("y")


def old_upsample() -> onnx.ModelProto:
    """Opset 8: enlargement by attributes, a sum of three, softmax over everything behind axis 1."""
    g = Graph(PICTURE, opset=8, ir=3)
    x = g.add("Relu", g.conv("x", 3, 8, strides=[2, 2]))
    up = g.add("Upsample", x, mode="nearest", scales=[1.0, 1.0, 2.0, 2.0])
    x = g.add("Sum", up, g.conv("x", 3, 8), g.conv("x", 3, 8, 1))
    x = g.add("Flatten", g.add("MaxPool", x, kernel_shape=[4, 4], strides=[4, 4]))
    x = g.add("Gemm", x, g.random(128, 12), g.random(12), beta=0.5, alpha=1.5)
    x = g.add("Reshape", x, g.value(np.array([0, 3, 2, -1])))
    g.add("Softmax", x, outputs=["y"], axis=1)
    return g.model("y")


def mxnet() -> onnx.ModelProto:
    """The data normalised in the graph, slopes per channel, pooling with borders on two sides, depthwise layers."""
    g = Graph(PICTURE, opset=9)
    x = g.add("Mul", g.add("Sub", "x", g.value(np.float32(0.5))), g.value(np.float32(1 / 0.25)))
    x = g.add("PRelu", g.norm(g.conv(x, 3, 8, bias=False), 8), g.random(8, 1, 1))
    x = g.add("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, count_include_pad=1)
    x = g.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 1, 1])
    x = g.add("Relu", g.norm(g.conv(x, 8, 16, group=8), 16))
    g.head(x, 16)
    return g.model("y")


def paddle() -> onnx.ModelProto:
    """Chains of Identity, scales as Mul and Add of single numbers, a flatten spelled with Shape, names with dots."""
    g = Graph({"x": (FLOAT, [-1, 3, 16, 16])}, opset=11)
    x = g.add("Identity", g.conv("x", 3, 8, bias=False))
    x = g.add("Identity", g.norm(x, 8))
    shifted = g.add("Clip", g.add("Add", x, g.value(np.float32(3))), g.value(np.float32(0)), g.value(np.float32(6)))
    x = g.add("Div", g.add("Mul", x, shifted), g.value(np.float32(6)))
    x = g.add("Add", g.conv(x, 8, 8, 1, bias=False), g.add("Reshape", g.random(8), g.value(np.array([1, 8, 1, 1]))))
    pooled = g.add("GlobalAveragePool", x)
    head = g.add("Slice", g.add("Shape", pooled), g.value(np.array([0])), g.value(np.array([1])))
    flat = g.add("Reshape", pooled, g.add("Concat", head, g.value(np.array([-1])), axis=0))
    x = g.add("Add", g.add("MatMul", flat, g.random(8, 5)), g.random(5))
    g.add("Identity", g.add("Softmax", x, axis=-1), outputs=["softmax_0.tmp_0"])
    return g.model("softmax_0.tmp_0")


def all_constants() -> onnx.ModelProto:
    """No initialiser: each weight is a Constant node, one goes through Transpose, one through Cast and Reshape."""
    g = Graph(PICTURE, opset=14)
    g.constants, g.named = True, False
    kernel = g.add("Transpose", g.random(3, 3, 3, 8), perm=[3, 2, 0, 1])
    x = g.add("Relu", g.add("Conv", "x", kernel, pads=[1] * 4))
    half = g.value((g.draw.normal(size=(16 * 8 * 9)) * 0.2).astype(np.float16))
    kernel = g.add("Reshape", g.add("Cast", half, to=1), g.value(np.array([16, 8, 3, 3])))
    x = g.add("Relu", g.add("Conv", x, kernel))
    g.head(x, 16)
    return g.model("y")


def dead_and_twice() -> onnx.ModelProto:
    """Nodes and weights that nothing reads, an output given twice through Identity, an input that goes nowhere."""
    g = Graph({**PICTURE, "unused": (INT64, ["N"])}, opset=13)
    x = g.add("Relu", g.conv("x", 3, 8))
    g.add("Sigmoid", g.conv(x, 8, 64))
    g.random(100, 100)
    g.head(x, 8)
    g.add("Identity", "y", outputs=["again"])
    return g.model("y", "again", x)


def only_identity() -> onnx.ModelProto:
    """Nothing to do."""
    g = Graph(ROW)
    g.add("Identity", g.add("Identity", "x"), outputs=["y"])
    return g.model("y")


def empty_axes() -> onnx.ModelProto:
    """Tensors without elements on the way: an empty part joined, an empty slice joined, a sum over nothing."""
    g = Graph(ROW)
    x = g.add("Concat", "x", g.sliced("x", 3, 3), axis=1)
    nothing = g.add("ReduceSum", g.sliced("x", 8, 9), g.value(np.array([1])))
    x = g.add("Add", g.add("Relu", g.add("Gemm", x, g.random(8, 16), g.random(16))), nothing)
    g.add("Gemm", x, g.random(16, 3), outputs=["y"])
    return g.model("y")


def branch(g: Graph, kind: str, weight: str) -> onnx.GraphProto:
    """A body that reads `h` and a weight from outside and applies `kind`."""
    made = g.fresh("branch")
    nodes = [helper.make_node("MatMul", ["h", weight], [f"{made}_m"]), helper.make_node(kind, [f"{made}_m"], [made])]
    return helper.make_graph(nodes, f"{made}_body", [], [helper.make_empty_tensor_value_info(made)])


def captured() -> onnx.ModelProto:
    """Branches that read activations and weights from outside; one condition is an input, the other is stored."""
    g = Graph({**ROW, "fast": (TensorProto.BOOL, [])}, opset=16)
    g.add("Relu", g.add("Gemm", "x", g.random(8, 12), g.random(12)), outputs=["h"])
    one, two = g.random(12, 12), g.random(12, 12)
    a = g.add("If", "fast", then_branch=branch(g, "Relu", one), else_branch=branch(g, "Tanh", two))
    b = g.add("If", g.value(np.array(True)), then_branch=branch(g, "Sigmoid", two), else_branch=branch(g, "Relu", one))
    g.add("Gemm", g.add("Add", a, b), g.random(12, 3), outputs=["y"])
    return g.model("y")


def scanned() -> onnx.ModelProto:
    """A recurrence written as Scan over time, with weights from outside."""
    g = Graph({"x": (FLOAT, [5, "N", 6]), "h0": (FLOAT, ["N", 10])}, opset=12)
    w, u = g.random(6, 10), g.random(10, 10)
    nodes = [helper.make_node("MatMul", ["xt", w], ["a"]), helper.make_node("MatMul", ["h", u], ["b"]),
             helper.make_node("Add", ["a", "b"], ["c"]), helper.make_node("Tanh", ["c"], ["h1"]),
             helper.make_node("Identity", ["h1"], ["seen"])]  # fmt: skip
    given = [helper.make_tensor_value_info("h", FLOAT, None), helper.make_tensor_value_info("xt", FLOAT, None)]
    made = [helper.make_tensor_value_info("h1", FLOAT, None), helper.make_tensor_value_info("seen", FLOAT, None)]
    body = helper.make_graph(nodes, "b", given, made)
    g.add("Scan", "h0", "x", outputs=["last", "all"], num_scan_inputs=1, body=body)
    g.add("Gemm", "last", g.random(10, 3), outputs=["y"])
    return g.model("y", "all")


def functions() -> onnx.ModelProto:
    """Local functions that call one another, with an attribute handed down."""
    g = Graph(ROW, opset=17)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    leaky = helper.make_node("LeakyRelu", ["t"], ["o"])
    leaky.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT))
    nodes = [helper.make_node("MatMul", ["a", "w"], ["t"]), leaky]
    inner = helper.make_function("mine", "Layer", ["a", "w"], ["o"], nodes, opsets, attributes=["slope"])
    call = [helper.make_node("Layer", ["a", "w"], ["t"], domain="mine", slope=0.2),
            helper.make_node("Layer", ["t", "v"], ["o"], domain="mine", slope=0.1)]  # fmt: skip
    outer = helper.make_function("mine", "Pair", ["a", "w", "v"], ["o"], call, opsets)
    g.functions, g.domains = [inner, outer], {"mine": 1}
    x = g.add("Pair", "x", g.random(8, 16), g.random(16, 8), domain="mine")
    g.add("Pair", x, g.random(8, 16), g.random(16, 3), domain="mine", outputs=["y"])
    return g.model("y")


def time_first() -> onnx.ModelProto:
    """The batch is the second axis; two layers of GRU, both directions, the last states joined."""
    g = Graph({"x": (FLOAT, [7, "batch", 6])}, opset=14)
    weights = [g.random(2, 24, 6), g.random(2, 24, 8), g.random(2, 48)]
    both: dict[str, Any] = {"hidden_size": 8, "direction": "bidirectional", "linear_before_reset": 1}
    g.add("GRU", "x", *weights, outputs=["all", "state"], **both)
    x = g.add("Reshape", g.add("Transpose", "state", perm=[1, 0, 2]), g.value(np.array([0, -1])))
    g.add("Gemm", x, g.random(16, 3), outputs=["y"])
    return g.model("y")


def doubles() -> onnx.ModelProto:
    """Everything in 64 bits, as scientists save it."""
    g = Graph({"x": (TensorProto.DOUBLE, ["N", 8])})
    w, v = (g.value(g.draw.normal(size=size) * 0.3) for size in ((8, 16), (16, 3)))
    g.add("MatMul", g.add("Tanh", g.add("MatMul", "x", w)), v, outputs=["y"])
    return g.model("y")


def brain_floats() -> onnx.ModelProto:
    """Weights stored in bfloat16 and widened by Cast where they are used."""
    g = Graph(ROW, opset=17)
    for name, size in (("w", (8, 16)), ("v", (16, 3))):
        values = (g.draw.normal(size=size) * 0.3).astype(np.float32)
        g.stored.append(helper.make_tensor(name, TensorProto.BFLOAT16, size, values.ravel().tolist()))
    x = g.add("Relu", g.add("MatMul", "x", g.add("Cast", "w", to=1)))
    g.add("MatMul", x, g.add("Cast", "v", to=1), outputs=["y"])
    return g.model("y")


def shared() -> onnx.ModelProto:
    """One kernel in two layers, its transpose in a third: an autoencoder with tied weights, and a bias used twice."""
    g = Graph(ROW)
    w, u, b = g.random(8, 12), g.random(12, 12), g.random(12)
    x = g.add("Relu", g.add("Gemm", "x", w, b))
    x = g.add("Relu", g.add("Gemm", g.add("Relu", g.add("Gemm", x, u, b)), u))
    g.add("MatMul", x, g.add("Transpose", w, perm=[1, 0]), outputs=["y"])
    return g.model("y")


def vectors() -> onnx.ModelProto:
    """MatMul with a vector, Gemm turned both ways with a number as bias, a head without an axis."""
    g = Graph(ROW, opset=11)
    x = g.add("Relu", g.add("Add", g.add("MatMul", "x", g.random(8, 16)), g.value(np.float32(0.1))))
    x, w, b = g.add("Transpose", x, perm=[1, 0]), g.random(12, 16), g.value(np.float32(0.2))
    x = g.add("Gemm", x, w, b, transA=1, transB=1)
    g.add("MatMul", g.add("Elu", x), g.random(12), outputs=["y"])
    return g.model("y")


def expressions() -> onnx.ModelProto:
    """Sizes named by expressions, one name on two axes, a question mark, outputs of which nothing is said."""
    g = Graph({"x": (FLOAT, ["N", "2*T", 6]), "z": (FLOAT, ["N", "?", 6])}, opset=13)
    x = g.add("Relu", g.add("Add", g.add("MatMul", g.add("Concat", "x", "z", axis=1), g.random(6, 12)), g.random(12)))
    x = g.add("ReduceMax", x, axes=[1], keepdims=0)
    g.add("MatMul", x, g.random(12, 3), outputs=["y"])
    return g.model("y")


def many_inputs() -> onnx.ModelProto:
    """Sum, Mean, Max and Min of several, Einsum without an arrow, Where, Mod, Hardmax, Celu."""
    g = Graph({"x": (FLOAT, ["N", 8]), "k": (INT64, ["N", 8])}, opset=13)
    parts = [g.add("Gemm", "x", g.random(8, 8), g.random(8)) for _ in range(3)]
    mixed = [g.add(kind, *parts) for kind in ("Sum", "Mean", "Max", "Min")]
    odd = g.add("Equal", g.add("Mod", "k", g.value(np.array(2))), g.value(np.array(1)))
    other = g.add("Add", mixed[1], g.add("Sub", mixed[2], mixed[3]))
    x = g.add("Where", odd, g.add("Celu", mixed[0], alpha=0.7), other)
    x = g.add("Einsum", x, g.random(8, 5), equation="ij,jk")
    g.add("Add", x, g.add("Hardmax", x), outputs=["y"])
    return g.model("y")


def transposed_conv() -> onnx.ModelProto:
    """Enlargement by transposed convolutions: with an output shape, with output padding, in groups."""
    g = Graph(PICTURE, opset=11)
    x = g.add("Relu", g.conv("x", 3, 8, strides=[2, 2]))
    x = g.add("ConvTranspose", x, g.random(8, 8, 3, 3), g.random(8), strides=[2, 2], output_shape=[16, 16])
    more: dict[str, Any] = {"strides": [2, 2], "pads": [1] * 4, "output_padding": [1, 1], "group": 4}
    x = g.add("ConvTranspose", g.add("Relu", x), g.random(8, 2, 3, 3), **more)
    g.conv(g.add("Selu", x), 8, 3)
    g.add("Sigmoid", g.nodes[-1].output[0], outputs=["y"])
    return g.model("y")


def turned(kind: str) -> Callable[[], onnx.ModelProto]:
    """Space and depth exchanged before and after a convolution."""

    def make() -> onnx.ModelProto:
        g = Graph(PICTURE, opset=13)
        x = g.add("Relu", g.conv(g.add("SpaceToDepth", "x", blocksize=2), 12, 16))
        x = g.add("DepthToSpace", g.conv(x, 16, 12), blocksize=2, mode=kind)
        g.head(g.add("HardSwish", x) if g.opset > 13 else g.add("Relu", x), 3)
        return g.model("y")

    return make


def newest() -> onnx.ModelProto:
    """Opset 23: attention, RMS normalisation and Swish-like products as operators of their own."""
    g = Graph({"x": (FLOAT, ["N", 6, 16])}, opset=23, ir=11)
    x = g.add("RMSNormalization", "x", g.value(np.ones(16, np.float32)), axis=-1)
    q, k, v = (g.add("MatMul", x, g.random(16, 16)) for _ in range(3))
    x = g.add("Attention", q, k, v, q_num_heads=4, kv_num_heads=4, is_causal=1)
    x = g.add("Add", "x", g.add("MatMul", x, g.random(16, 16)))
    g.add("MatMul", g.add("Gelu", g.add("MatMul", x, g.random(16, 24))), g.random(24, 16), outputs=["y"])
    return g.model("y")


def external() -> onnx.ModelProto:
    """Weights in several files beside the model (see `save`)."""
    g = Graph(PICTURE)
    x = g.add("Relu", g.norm(g.conv("x", 3, 16), 16))
    g.head(g.add("Relu", g.conv(x, 16, 16)), 16)
    model = g.model("y")
    model.doc_string = "external"
    return model


GRAPHS: dict[str, Callable[[], onnx.ModelProto]] = {
    "keras": keras, "keras_lstm": keras_lstm, "caffe": caffe, "caffe7": lambda: caffe(7), "old_upsample": old_upsample,
    "mxnet": mxnet, "paddle": paddle, "all_constants": all_constants, "dead_and_twice": dead_and_twice,
    "only_identity": only_identity, "empty_axes": empty_axes, "captured": captured, "scanned": scanned,
    "functions": functions, "time_first": time_first, "doubles": doubles, "brain_floats": brain_floats,
    "shared": shared, "vectors": vectors, "expressions": expressions, "many_inputs": many_inputs,
    "transposed_conv": transposed_conv, "depth_first": turned("DCR"), "columns_first": turned("CRD"), "newest": newest,
    "external": external,
}  # fmt: skip


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a model; one that asks for it has each weight in a file of its own."""
    if model.doc_string == "external":
        onnx.save(model, path, save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=0)
    else:
        onnx.save(model, path)
