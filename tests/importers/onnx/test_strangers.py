"""What files of other converters have in common: each class of them once, and the odd graphs of the benchmark."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from edgepress.importers.onnx import load, to_module

RNG = np.random.default_rng(3)
node, info = helper.make_node, helper.make_tensor_value_info


def odd_graphs() -> ModuleType:
    """benchmarks/onnx_import/odd_graphs.py."""
    if "odd_graphs" not in sys.modules:
        path = Path(__file__).resolve().parents[3] / "benchmarks" / "onnx_import" / "odd_graphs.py"
        spec = importlib.util.spec_from_file_location("odd_graphs", path)
        assert spec is not None and spec.loader is not None
        sys.modules["odd_graphs"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["odd_graphs"])
    return sys.modules["odd_graphs"]


OLDER_THAN_ONNXRUNTIME = ("caffe",)


@pytest.mark.parametrize("name", [name for name in odd_graphs().GRAPHS if name not in OLDER_THAN_ONNXRUNTIME])
def test_an_odd_graph_answers_as_onnxruntime(name: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    odd_graphs().save(odd_graphs().GRAPHS[name](), path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    program = load(path)
    feeds = {n: value.numpy() for n, value in zip(program.input_names, program.example_inputs, strict=True)}
    declared = {one.name: one.shape for one in session.get_inputs()}
    feeds = {n: value[:1] if declared[n][:1] == [1] else value for n, value in feeds.items()}
    with torch.no_grad():
        found: Any = program.module()(*(torch.from_numpy(feeds[n]) for n in program.input_names))
    expected = session.run(None, feeds)
    for ours, theirs in zip([found] if isinstance(found, torch.Tensor) else found, expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-5)


def test_version_6_of_the_operators(tmp_path: Path) -> None:
    """onnxruntime has no kernels for it; version 7 of the same network has the same answers."""
    answers = []
    for name in ("caffe", "caffe7"):
        odd_graphs().save(odd_graphs().GRAPHS[name](), tmp_path / f"{name}.onnx")
        program = load(tmp_path / f"{name}.onnx")
        x = torch.linspace(-1, 1, 2 * 3 * 16 * 16).reshape(2, 3, 16, 16)
        answers.append(program.module()(x)[0].detach())
    torch.testing.assert_close(*answers)


def test_axes_of_one_name_have_one_size(write: Callable[..., Path]) -> None:
    """A row of steps beside pictures: its only axis is the batch, because the pictures' batch has its name."""
    nodes = [node("Cast", ["t"], ["f"], to=1), node("Reshape", ["f", "to"], ["r"]), node("Add", ["x", "r"], ["y"])]
    inputs = {"x": ["s77", 3, 32, 32], "t": (TensorProto.INT64, ["s77"])}
    model = to_module(write(nodes, inputs, ["y"], {"to": np.array([-1, 1, 1, 1])}))
    assert [value.shape[0] for value in model.example_inputs] == [2, 2]
    assert all(model.dynamic_shapes[0])


def test_a_row_of_lengths_has_one_for_each_sample(write: Callable[..., Path]) -> None:
    """The file names no axis: a row of integers beside others is tried as one for each sample."""
    nodes = [node("Cast", ["n"], ["f"], to=1), node("Unsqueeze", ["f", "one"], ["u"]),
             node("ReduceSum", ["x", "both"], ["s"], keepdims=0), node("Unsqueeze", ["s", "one"], ["v"]),
             node("Concat", ["v", "u"], ["y"], axis=1)]  # fmt: skip
    inputs = {"x": [None, None, 4], "n": (TensorProto.INT64, [None])}
    model = to_module(write(nodes, inputs, ["y"], {"one": np.array([1]), "both": np.array([1, 2])}))
    assert model.example_inputs[1].shape == model.example_inputs[0].shape[:1]


def counted_loop(trips: int) -> onnx.ModelProto:
    """A recurrence as TensorFlow's converter writes it: a stored counter, and weights that are handed along."""
    body = helper.make_graph(
        [
            node("Add", ["k", "one"], ["k2"]),
            node("Gather", ["x", "k"], ["xt"]),
            node("MatMul", ["xt", "w0"], ["a"]),
            node("MatMul", ["h", "u0"], ["b"]),
            node("Add", ["a", "b"], ["s"]),
            node("Tanh", ["s"], ["h2"]),
            node("Less", ["k2", "n"], ["go2"]),
            node("Identity", ["w0"], ["w1"]),
        ],
        "body",
        [info("i", TensorProto.INT64, []), info("go", TensorProto.BOOL, []),
         *(info(n, TensorProto.INT32 if n == "k" else TensorProto.FLOAT, None) for n in ("k", "h", "w0", "u0"))],
        [info("go2", TensorProto.BOOL, []),
         *(info(n, TensorProto.INT32 if n == "k2" else TensorProto.FLOAT, None) for n in ("k2", "h2", "w1", "u0"))],
    )  # fmt: skip
    stored = {"k0": np.int32(0), "one": np.int32(1), "n": np.int32(trips), "yes": np.array(True),
              "w": RNG.normal(size=(4, 6)).astype(np.float32) * 0.3,
              "u": RNG.normal(size=(6, 6)).astype(np.float32) * 0.3}  # fmt: skip
    graph = helper.make_graph(
        [node("Loop", ["", "yes", "k0", "h0", "w", "u"], ["k9", "y", "w9", "u9"], body=body)],
        "g",
        [info("x", TensorProto.FLOAT, [trips, "N", 4]), info("h0", TensorProto.FLOAT, ["N", 6])],
        [helper.make_empty_tensor_value_info("y")],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_a_counted_loop_is_unrolled_into_layers_with_shared_weights(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(counted_loop(5), path)
    feeds = {"x": RNG.normal(size=(5, 3, 4)).astype(np.float32), "h0": np.zeros((3, 6), np.float32)}
    program = load(path)
    names = [str(n.target) for n in program.nodes]
    assert names.count("aten.linear.default") == 10
    assert not any("Loop" in name or "while" in name for name in names)
    assert program.parameter_count() == 4 * 6 + 6 * 6  # once, not for each step
    with torch.no_grad():
        found: Any = program.module()(*(torch.from_numpy(feeds[n]) for n in program.input_names))
    expected = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feeds)
    np.testing.assert_allclose((found if isinstance(found, torch.Tensor) else found[0]).numpy(), expected[0], atol=1e-5)


EQUATIONS = {
    "bnd,de->bne": ((2, 3, 4), (4, 5)),
    "abc,cde->abde": ((2, 3, 4), (4, 2, 3)),  # a layer for each head at once
    "abcd,cde->abe": ((2, 3, 2, 4), (2, 4, 5)),  # and back
    "ij,jk": ((3, 4), (4, 5)),
    "nig,oig->no": ((2, 3, 4), (5, 3, 4)),
    "nd,d->n": ((3, 4), (4,)),
    "bi,oi->ob": ((3, 4), (5, 4)),
    "bqhd,bkhd->bhqk": ((2, 3, 2, 4), (2, 5, 2, 4)),
    "bhqk,bkhd->bqhd": ((2, 2, 3, 5), (2, 5, 2, 4)),
    "npi,pij->npj": ((2, 3, 4), (3, 4, 4)),
    "bi,bj->bij": ((3, 4), (3, 2)),  # an outer product stays what it is
    "bii,ij->bj": ((2, 4, 4), (4, 3)),  # so does a diagonal
}


@pytest.mark.parametrize("equation", EQUATIONS)
@pytest.mark.parametrize("stored", [None, 0, 1])
def test_einsum_answers_as_onnxruntime(equation: str, stored: int | None, write: Callable[..., Path]) -> None:
    values = {
        name: RNG.normal(size=size).astype(np.float32) for name, size in zip("xw", EQUATIONS[equation], strict=True)
    }
    weights = {} if stored is None else {"xw"[stored]: values.pop("xw"[stored])}
    nodes = [node("Einsum", ["x", "w"], ["y"], equation=equation)]
    path = write(nodes, {name: list(value.shape) for name, value in values.items()}, ["y"], weights)
    model = to_module(path, dynamic="none")
    with torch.no_grad():
        found = model.module(*(torch.from_numpy(values[name]) for name in model.input_names))[0]
    expected = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, values)[0]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-5)


def test_an_einsum_with_a_weight_is_a_layer(write: Callable[..., Path]) -> None:
    nodes = [node("Einsum", ["x", "w"], ["h"], equation="abc,cde->abde"), node("Relu", ["h"], ["r"]),
             node("Einsum", ["r", "v"], ["y"], equation="abde,dec->abc")]  # fmt: skip
    weights = {"w": RNG.normal(size=(8, 2, 6)).astype(np.float32), "v": RNG.normal(size=(2, 6, 8)).astype(np.float32)}
    program = load(write(nodes, {"x": ["batch", 5, 8]}, ["y"], weights))
    assert [str(n.target) for n in program.nodes].count("aten.linear.default") == 2
    assert program.parameter_count() == 2 * 8 * 12
