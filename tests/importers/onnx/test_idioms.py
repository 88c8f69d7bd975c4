"""Patterns that exporters write around shapes, as they stand in files of text encoders and detectors."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from edgepress.exporters.onnx import OnnxOptions, export_onnx
from edgepress.importers.onnx import OnnxModel, load, to_module

Write = Callable[..., Path]
RNG = np.random.default_rng(11)


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def check(path: Path, model: OnnxModel, feeds: dict[str, np.ndarray]) -> None:
    """The exported graph gives what onnxruntime gives."""
    with torch.no_grad():
        found = model.exported.module(check_guards=False)(*(torch.from_numpy(feeds[n]) for n in model.input_names))
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    for ours, theirs in zip(found, session.run(None, feeds), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-5)


def node(kind: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def test_expand_with_minus_one_keeps_every_axis_open(write: Write) -> None:
    # torch's x.expand(batch, -1, ...) in the TorchScript exporter: shape == -1 ? 1 : shape
    one = numpy_helper.from_array(np.array([1], np.int64), "one")
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape batch_at", "batch"),
        node("Gather", "shape length_at", "length"),
        node("Concat", "batch length", "target", axis=0),
        node("Shape", "target", "rank"),
        node("ConstantOfShape", "rank", "ones", value=one),
        node("Mul", "ones minus", "minus_ones"),
        node("Equal", "target minus_ones", "is_free"),
        node("Where", "is_free ones target", "sizes"),
        node("Expand", "positions sizes", "wide"),
        node("Add", "x wide", "y"),
    ]
    weights = {
        "batch_at": np.array([0]), "length_at": np.array([1]), "minus": np.array(-1), "positions": floats(1, 1),
    }  # fmt: skip
    path = write(nodes, {"x": ["batch", "sequence"]}, ["y"], weights)
    model = to_module(path)
    assert [sorted(axes) for axes in model.dynamic_shapes[0]] == [[0, 1]]
    assert not model.notes
    for shape in ((2, 5), (3, 7), (1, 1)):
        check(path, model, {"x": floats(*shape)})


def test_a_fill_of_a_small_type_while_tracing(write: Write) -> None:
    flag = helper.make_tensor("flag", TensorProto.BOOL, [1], [True])
    nodes = [
        node("Shape", "x", "shape"),
        node("ConstantOfShape", "shape", "kept", value=flag),
        node("Where", "kept x zero", "y"),
    ]
    path = write(nodes, {"x": ["batch", 4]}, ["y"], {"zero": np.float32(0)})
    check(path, to_module(path), {"x": floats(3, 4)})


def test_sizes_split_apart_stay_sizes(write: Write) -> None:
    # onnxruntime's optimizer turns several Gathers of one shape into a Split
    nodes = [
        node("Shape", "x", "shape"),
        helper.make_node("Split", ["shape", "ones"], ["n", "length", "width"], axis=0),
        node("Mul", "n length", "rows"),
        node("Concat", "rows width", "to", axis=0),
        node("Reshape", "x to", "y"),
    ]
    path = write(nodes, {"x": ["batch", "sequence", 4]}, ["y"], {"ones": np.array([1, 1, 1])})
    model = to_module(path)
    assert not [n for n in model.exported.graph.nodes if "item" in str(n.target)]
    for shape in ((1, 1, 4), (3, 5, 4)):
        check(path, model, {"x": floats(*shape)})


def test_open_axes_keep_their_names_in_what_is_exported(write: Write, tmp_path: Path) -> None:
    nodes = [node("MatMul", "x w", "h"), node("Transpose", "h", "t", perm=[1, 0, 2]), node("Relu", "t", "y")]
    path = write(nodes, {"x": ["time", "N", 3]}, ["y"], {"w": floats(3, 4)})
    for name, options in (("free.onnx", OnnxOptions()), ("one.onnx", OnnxOptions(batch=1))):
        export_onnx(load(path), tmp_path / name, options=options)
    free, one = (onnx.load(tmp_path / name).graph for name in ("free.onnx", "one.onnx"))
    assert axes(free.input[0]) == ["time", "batch", 3]
    assert axes(free.output[0]) == ["batch", "time", 4]
    assert axes(one.input[0]) == ["time", 1, 3]


def axes(value: onnx.ValueInfoProto) -> list[str | int]:
    return [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
