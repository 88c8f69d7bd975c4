"""Files as they are found: old forms, odd names, things in unusual places. Each answers as onnxruntime does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgepress.errors import UserError
from edgepress.exporters.onnx import export_onnx
from edgepress.importers.onnx import load, to_module
from edgepress.ir.capture import capture
from edgepress.passes.mark_dynamic import mark_dynamic

RNG = np.random.default_rng(11)
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
node = helper.make_node


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


class File:
    """A model, written out in full: `inputs` are name -> (type, shape or None), `feeds` what it is run with."""

    def __init__(self, nodes: Sequence[onnx.NodeProto], inputs: dict, outputs: Sequence[str], feeds: dict,
                 stored: dict | None = None, *, opset: int = 17, ir: int = 8, also_inputs: bool = False,
                 functions: Sequence[onnx.FunctionProto] = (),
                 extra: Sequence[onnx.TensorProto] = ()) -> None:  # fmt: skip
        tensors = [*(numpy_helper.from_array(np.asarray(v), k) for k, v in (stored or {}).items()), *extra]
        entries = [helper.make_tensor_value_info(name, *declared) for name, declared in inputs.items()]
        if also_inputs:
            entries += [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in tensors]
        results = [helper.make_empty_tensor_value_info(name) for name in outputs]
        graph = helper.make_graph(list(nodes), "g", entries, results, tensors)
        imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(f.domain, 1) for f in functions[:1])]
        self.feeds = feeds
        self.model = helper.make_model(graph, opset_imports=imports, ir_version=ir, functions=list(functions))

    def save(self, folder: Path) -> Path:
        onnx.save(self.model, folder / "m.onnx")
        return folder / "m.onnx"


def assert_agree(file: File, folder: Path, **options: Any) -> Any:
    path = file.save(folder)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    program = load(path, **options)
    with torch.no_grad():
        found = program.module()(*(torch.from_numpy(file.feeds[name]) for name in program.input_names))
    for ours, theirs in zip(found, session.run(None, file.feeds), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-5)
    return program


X, IMAGE = {"x": floats(3, 4)}, {"x": floats(2, 3, 6, 6)}
ROWS, IMAGES = {"x": (FLOAT, ["N", 4])}, {"x": (FLOAT, ["N", 3, 6, 6])}
KERNEL = {"w": floats(4, 3, 3, 3)}
STATISTICS = {"s": floats(4), "b": floats(4), "m": floats(4), "v": np.abs(floats(4)) + 0.5}
SQUARE = {"w": floats(4, 4) * 0.3}
BATCH_NORM = ["s", "b", "m", "v"]


def loop_body() -> onnx.GraphProto:
    """state -> (state + x) w: both x and w come from outside."""
    nodes = [node("Add", ["a", "x"], ["p"]), node("MatMul", ["p", "w"], ["q"]), node("Identity", ["c"], ["c2"]),
             node("Identity", ["q"], ["scanned"])]  # fmt: skip
    given = [helper.make_tensor_value_info("i", INT64, []), helper.make_tensor_value_info("c", TensorProto.BOOL, []),
             helper.make_tensor_value_info("a", FLOAT, None)]  # fmt: skip
    made = [helper.make_tensor_value_info("c2", TensorProto.BOOL, []), helper.make_tensor_value_info("q", FLOAT, None),
            helper.make_tensor_value_info("scanned", FLOAT, None)]  # fmt: skip
    return helper.make_graph(nodes, "body", given, made)


def block() -> onnx.FunctionProto:
    nodes = [node("MatMul", ["a", "b"], ["t"]), node("Relu", ["t"], ["o"])]
    return helper.make_function("mine", "Block", ["a", "b"], ["o"], nodes, [helper.make_opsetid("", 17)])


FILES = {
    "version 3, weights among the inputs, spatial": File(
        [node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
         node("BatchNormalization", ["c", *BATCH_NORM], ["n"], spatial=1),
         node("Dropout", ["n"], ["y"], ratio=0.5)],
        IMAGES, ["y"], IMAGE, {**KERNEL, **STATISTICS}, opset=7, ir=3, also_inputs=True),
    "batch norm saved while training": File(
        [node("BatchNormalization", ["x", *BATCH_NORM], ["y", "om", "ov", "sm", "sv"])],
        ROWS, ["y"], X, STATISTICS, opset=9),
    "dropout with its mask": File(
        [node("Dropout", ["x", "r", "t"], ["d", "mask"]), node("Relu", ["d"], ["y"])],
        ROWS, ["y", "mask"], X, {"r": np.float32(0.5), "t": np.array(False)}),
    "upsample 7": File([node("Upsample", ["x"], ["y"], scales=[1.0, 1.0, 2.0, 2.0], mode="nearest")], IMAGES, ["y"],
                       IMAGE, opset=7),
    "upsample 9": File([node("Upsample", ["x", "k"], ["y"], mode="linear")], IMAGES, ["y"], IMAGE,
                       {"k": np.array([1, 1, 2, 3], np.float32)}, opset=9),
    "names": File(
        [node("Conv", ["in put/ü:0", "a/b c/日本.weight"], ["/c 1"], name=""),
         node("Relu", ["/c 1"], ["out/put:0"], name="re lu/ü")],
        {"in put/ü:0": IMAGES["x"]}, ["out/put:0"], {"in put/ü:0": IMAGE["x"]}, {"a/b c/日本.weight": KERNEL["w"]}),
    "bfloat16": File([node("Cast", ["w"], ["f"], to=1), node("MatMul", ["x", "f"], ["y"])], ROWS, ["y"], X,
                     extra=[helper.make_tensor("w", TensorProto.BFLOAT16, [4, 3], floats(12).tolist())]),
    "float64": File([node("MatMul", ["x", "w"], ["y"])], {"x": (TensorProto.DOUBLE, ["N", 4])}, ["y"],
                    {"x": X["x"].astype(np.float64)}, {"w": floats(4, 3).astype(np.float64)}),
    "outputs that are an input and a weight": File(
        [node("Relu", ["x"], ["y"]), node("Identity", ["x"], ["z"])], ROWS, ["y", "z", "k"], X, {"k": floats(3)}),
    "a loop that reads from outside": File(
        [node("Loop", ["n", "t", "x"], ["y", "all"], body=loop_body())], ROWS, ["y", "all"], X,
        {"n": np.array(3), "t": np.array(True), **SQUARE}),
    "local functions": File(
        [node("Block", ["x", "w"], ["h"], domain="mine"), node("Block", ["h", "w"], ["y"], domain="mine")],
        ROWS, ["y"], X, SQUARE, functions=[block()]),
    "sequences": File(
        [node("SplitToSequence", ["x", "two"], ["s"], axis=1), node("SequenceAt", ["s", "zero"], ["a"]),
         node("SequenceAt", ["s", "one"], ["b"]), node("SequenceConstruct", ["b", "a", "b"], ["q"]),
         node("ConcatFromSequence", ["q"], ["y"], axis=1)],
        ROWS, ["y"], X, {"two": np.array([2, 2]), "zero": np.array(0), "one": np.array(1)}),
    "tokens and flags in, two types out": File(
        [node("Gather", ["e", "t"], ["g"]), node("ReduceMean", ["g"], ["p"], axes=[1], keepdims=0),
         node("Cast", ["m"], ["f"], to=1), node("Add", ["p", "f"], ["y"]), node("ArgMax", ["y"], ["k"], axis=-1)],
        {"t": (INT64, ["batch", "length"]), "m": (TensorProto.BOOL, ["batch", 1])}, ["y", "k"],
        {"t": RNG.integers(0, 10, (3, 7)), "m": np.array([[True], [False], [True]])}, {"e": floats(10, 4)}),
    "what a mask selects": File(
        [node("Greater", ["x", "z"], ["m"]), node("NonZero", ["m"], ["n"]),
         node("Transpose", ["n"], ["i"], perm=[1, 0]), node("GatherND", ["x", "i"], ["y"])],
        ROWS, ["y"], X, {"z": np.float32(0)}),
    "an input nothing reads": File([node("Relu", ["x"], ["y"])], {**ROWS, "u": (FLOAT, ["N", 2])}, ["y"],
                                   {**X, "u": floats(3, 2)}),
    "sizes below zero": File([node("Relu", ["x"], ["y"])], {"x": (FLOAT, [-1, 4])}, ["y"], X),
    "axes as attributes": File(
        [node("Flatten", ["x"], ["a"]), node("Unsqueeze", ["a"], ["b"], axes=[1]),
         node("Squeeze", ["b"], ["c"], axes=[1]),
         node("Softmax", ["c"], ["y"], axis=1)], ROWS, ["y"], X, opset=7),
    "the newest opset": File([node("Gelu", ["x"], ["a"]), node("Mish", ["a"], ["y"])], ROWS, ["y"], X, opset=25, ir=11),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_a_file(case: str, tmp_path: Path) -> None:
    assert_agree(FILES[case], tmp_path)


def test_a_loop_over_an_open_axis_fixes_it_and_says_so(tmp_path: Path) -> None:
    nodes = [node("Shape", ["x"], ["sizes"]), node("Gather", ["sizes", "zero"], ["n"]),
             node("Loop", ["n", "t", "x"], ["y", "all"], body=loop_body())]  # fmt: skip
    stored = {"zero": np.array(0), "t": np.array(True), **SQUARE}
    program = assert_agree(File(nodes, ROWS, ["y", "all"], {"x": floats(2, 4)}, stored), tmp_path)
    assert "the number of iterations" in " ".join(program.history)


def test_an_input_without_a_shape_asks_for_one(tmp_path: Path) -> None:
    file = File([node("Relu", ["x"], ["y"])], {"x": (FLOAT, None)}, ["y"], X)
    with pytest.raises(UserError, match="declares no shape") as raised:
        load(file.save(tmp_path))
    assert "shapes=" in raised.value.fix
    assert_agree(file, tmp_path, shapes={"x": (3, 4)})


def test_a_float16_input_is_taken_as_float32(tmp_path: Path) -> None:
    half = (TensorProto.FLOAT16, ["N", 4])
    file = File([node("MatMul", ["x", "w"], ["y"])], {"x": half}, ["y"], X, {"w": floats(4, 3).astype(np.float16)})
    program = load(file.save(tmp_path))
    assert "float16" in " ".join(program.history)
    (found,) = program.module()(torch.from_numpy(X["x"]))
    weight = numpy_helper.to_array(file.model.graph.initializer[0])
    np.testing.assert_allclose(found.detach().numpy(), X["x"] @ weight.astype(np.float32), rtol=1e-5, atol=1e-6)


def test_a_batch_that_is_written_into_a_reshape_opens(tmp_path: Path) -> None:
    nodes = [node("Conv", ["x", "w"], ["c"], pads=[1] * 4), node("Reshape", ["c", "to"], ["r"]),
             node("MatMul", ["r", "u"], ["y"])]  # fmt: skip
    stored = {**KERNEL, "to": np.array([1, 144]), "u": floats(144, 5)}
    one = {"x": IMAGE["x"][:1]}
    file = File(nodes, {"x": (FLOAT, [1, 3, 6, 6])}, ["y"], one, stored)
    program = assert_agree(file, tmp_path)
    assert program.module()(torch.from_numpy(floats(5, 3, 6, 6)))[0].shape == (5, 5)


@pytest.mark.parametrize("seed", range(6))
def test_boxes_are_suppressed_in_the_order_of_onnxruntime(tmp_path: Path, seed: int) -> None:
    """Also where scores and corners are equal."""
    draw = np.random.default_rng(seed)
    low = draw.random((1, 200, 2))
    boxes, scores = np.concatenate([low, low + draw.random((1, 200, 2)) * 0.4], -1), draw.random((1, 3, 200))
    if seed % 2:
        boxes, scores = np.round(boxes * 8) / 8, np.round(scores * 20) / 20
    feeds = {"b": boxes.astype(np.float32), "s": scores.astype(np.float32)}
    stored = {"k": np.array([20]), "i": np.float32([0.5]), "t": np.float32([0.3])}
    suppress = node("NonMaxSuppression", ["b", "s", "k", "i", "t"], ["y"], center_point_box=int(seed > 3))
    inputs = {"b": (FLOAT, [1, 200, 4]), "s": (FLOAT, [1, 3, 200])}
    path = File([suppress], inputs, ["y"], feeds, stored, opset=11).save(tmp_path)
    (expected,) = onnxruntime.InferenceSession(path.read_bytes()).run(None, feeds)
    (found,) = to_module(path).module(*map(torch.from_numpy, feeds.values()))
    assert len(expected) > 3 and np.array_equal(found.numpy(), expected)


def test_what_was_exported_with_dynamic_integers_comes_back(tmp_path: Path) -> None:
    class Speech(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = torch.nn.LSTM(5, 8, batch_first=True, bidirectional=True)
            self.head = torch.nn.Linear(16, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.lstm(x)[0])

    torch.manual_seed(0)
    x = torch.randn(3, 6, 5)
    program = capture(Speech().eval(), [x])
    layers = [n.name for n in program.nodes if str(n.target) in ("aten.linear.default", "aten.lstm.input")]
    dynamic = mark_dynamic(program, layers).program
    back = load(export_onnx(dynamic, tmp_path / "d.onnx").path)
    with torch.no_grad():
        expected, (found,) = program.module()(x), back.module()(x)
    assert (found - expected).abs().max() < 0.03 * expected.abs().max()
    assert {"aten.lstm.input", "aten.linear.default"} <= {str(n.target) for n in back.nodes}
