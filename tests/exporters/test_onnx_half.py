"""16-bit ONNX: what is converted, what stays float and why, and that it still computes the same."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgepress.errors import UserError
from edgepress.exporters.onnx import OnnxOptions, export_onnx
from edgepress.exporters.onnx_half import KeepFloat, overflowing, peaks_of, to_half
from edgepress.ir import Program
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.targets.capability import Capability


def exported(program: Program, path: Path, **settings: object) -> onnx.ModelProto:
    export_onnx(program, path, options=OnnxOptions(**settings))  # type: ignore[arg-type]
    return onnx.load(path)


def run(path: Path, image: np.ndarray) -> np.ndarray:
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"image": image})[0]


def types(model: onnx.ModelProto) -> dict[str, int]:
    return {tensor.name: tensor.data_type for tensor in model.graph.initializer}


def scale_model(weight: np.ndarray, opset: int = 17) -> onnx.ModelProto:
    """y = (x * weight) + 1, then a softmax."""
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["scaled"]),
        helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(np.float32(1))),
        helper.make_node("Add", ["scaled", "one"], ["sum"]),
        helper.make_node("Softmax", ["sum"], ["y"]),
    ]
    border = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", border[:1], border[1:], [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def test_weights_are_halved_and_answers_stay(residual: Program, images: torch.Tensor, tmp_path: Path) -> None:
    whole = export_onnx(residual, tmp_path / "whole.onnx")
    model = exported(residual, tmp_path / "half.onnx", precision="float16")
    assert set(types(model).values()) == {TensorProto.FLOAT16}
    assert [n.op_type for n in model.graph.node].count("Cast") == 2, "one at either border, none between"
    first, second = run(whole.path, images.numpy()), run(tmp_path / "half.onnx", images.numpy())
    assert 0 < np.abs(first - second).max() < 5e-3


def test_the_borders_can_be_half_as_well(residual: Program, images: torch.Tensor, tmp_path: Path) -> None:
    model = exported(residual, tmp_path / "h.onnx", precision="float16", keep=KeepFloat(borders=False))
    assert "Cast" not in {n.op_type for n in model.graph.node}
    answer = run(tmp_path / "h.onnx", images.numpy().astype(np.float16))
    assert answer.dtype == np.float16
    assert np.abs(answer - residual(images).numpy()).max() < 5e-3


def test_what_is_kept_stays_float_and_says_why(residual: Program, images: torch.Tensor, tmp_path: Path) -> None:
    keep = KeepFloat(ops=("Gemm",), names=("conv2d",))
    artifact = export_onnx(residual, tmp_path / "m.onnx", options=OnnxOptions(precision="float16", keep=keep))
    reasons = {one.node: one.reason for one in artifact.kept}
    assert reasons == {"Gemm making logits": "Gemm is kept float", "Conv making conv2d": "its name matches 'conv2d'"}
    kinds = types(onnx.load(artifact.path))
    assert kinds["stem.weight"] == kinds["head.weight"] == TensorProto.FLOAT
    assert kinds["inner.weight"] == TensorProto.FLOAT16
    assert np.abs(run(artifact.path, images.numpy()) - residual(images).numpy()).max() < 5e-3


def test_a_weight_that_does_not_fit_keeps_its_node_float() -> None:
    x = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32)
    model = scale_model(np.array([1e5, 1, 1, 1], np.float32))
    expected = ReferenceEvaluator(model).run(None, {"x": x})[0]
    half, kept = to_half(model, "float16")
    assert [(one.node, one.reason) for one in kept] == [
        ("Mul making scaled", "its weight w reaches 1e+05, over float16's 65504")
    ]
    assert np.allclose(ReferenceEvaluator(half).run(None, {"x": x})[0], expected, atol=1e-3)


def test_a_value_that_does_not_fit_keeps_its_maker_and_reader_float() -> None:
    peaks = peaks_of([{"scaled": np.array([3.0, -7e4])}, {"scaled": np.array([1.0]), "sum": np.array([np.inf])}])
    assert peaks == {"scaled": 7e4, "sum": np.inf}
    assert set(overflowing(peaks)) == {"scaled", "sum"}
    _, kept = to_half(scale_model(np.ones(4, np.float32)), "float16", peaks={"scaled": 7e4})
    assert [one.node for one in kept] == ["Mul making scaled", "Add making sum"]
    assert kept[0].reason == "scaled reaches 7e+04 on the samples, over float16's 65504"


def test_infinite_masks_are_no_overflow() -> None:
    _, kept = to_half(scale_model(np.array([-np.inf, 1, 1, 1], np.float32)), "float16")
    assert kept == ()


def test_one_weight_in_both_types() -> None:
    model = scale_model(np.full(4, 2, np.float32))
    model.graph.node[2].input[1] = "w"  # the sum reads it, too
    half, _ = to_half(model, "float16", KeepFloat(ops=("Mul",)))
    onnx.checker.check_model(half, full_check=True)
    assert sorted(types(half).values()) == [TensorProto.FLOAT, TensorProto.FLOAT16]


def test_bfloat16_raises_the_opset_that_has_it(residual: Program, images: torch.Tensor, tmp_path: Path) -> None:
    model = exported(residual, tmp_path / "b.onnx", precision="bfloat16")
    assert model.opset_import[0].version == 22
    assert set(types(model).values()) == {TensorProto.BFLOAT16}
    answer = ReferenceEvaluator(model).run(None, {"image": images[:4].numpy()})[0]
    assert 0 < np.abs(answer - residual(images[:4]).numpy()).max() < 0.05


def test_bfloat16_has_the_range_of_float32() -> None:
    _, kept = to_half(scale_model(np.array([1e5, 1, 1, 1], np.float32)), "bfloat16", peaks={"scaled": 1e6})
    assert kept == ()


def test_quantized_layers_stay_as_they_are(
    residual: Program, images: torch.Tensor, x86: Capability, tmp_path: Path
) -> None:
    program = quantize(residual, QuantOptions(), x86, [(images,)]).program
    with pytest.raises(UserError, match="nothing in the model can be float16"):
        export_onnx(program, tmp_path / "q.onnx", options=OnnxOptions(precision="float16"))


def test_control_flow_and_patterns_that_are_none() -> None:
    body = helper.make_graph([], "body", [], [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])])
    model = scale_model(np.ones(4, np.float32))
    model.graph.node.append(helper.make_node("If", ["flag"], ["z"], then_branch=body, else_branch=body))
    with pytest.raises(UserError, match="branches or loops"):
        to_half(model, "float16")
    with pytest.raises(UserError, match="no regular expression"):
        to_half(scale_model(np.ones(4, np.float32)), "float16", KeepFloat(names=("(",)))
