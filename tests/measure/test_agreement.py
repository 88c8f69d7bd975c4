"""Files of one model on several places, held against the ONNX reference."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from tests.small_networks import images, residual, x86

from edgepress.errors import ToolError
from edgepress.exporters.formats import write_files
from edgepress.ir import Program
from edgepress.measure.agreement import agreement
from edgepress.measure.reference import Reference
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.targets import load
from edgepress.targets.capability import Capability

__all__ = ["images", "residual", "x86"]


def test_the_reference_reads_what_we_write(
    residual: Program, images: torch.Tensor, x86: Capability, tmp_path: Path
) -> None:
    quantized = quantize(residual, QuantOptions(), x86, [(images,)]).program
    for name, program in (("float", residual), ("int8", quantized)):
        reference = Reference(write_files(program, tmp_path / name, ["onnx"]).paths["onnx"])
        assert reference.input_names == ("image",) and reference.output_names == ("logits",)
        answer = reference.run({"image": images[:8].numpy()})[0]
        assert np.abs(answer - program(images[:8]).numpy()).max() < 0.05
        assert "relu" in reference.trace({"image": images[:8].numpy()})


def test_every_place_against_the_reference(residual: Program, images: torch.Tensor, tmp_path: Path) -> None:
    files = write_files(residual, tmp_path, ["onnx", "pt2"]).paths
    places = [("model.onnx", files["onnx"], load("local-cpu")), ("model.pt2", files["pt2"], load("torch-eager"))]
    hops, why = agreement(places, {"image": images[:8].numpy()})
    assert why == ""
    assert [(h.first, h.second) for h in hops] == [
        ("model.onnx by the ONNX reference", "model.onnx on local-cpu"),
        ("model.onnx by the ONNX reference", "model.pt2 on torch-eager"),
    ]
    assert all(h.max_abs < 1e-5 and h.flip_rate == 0 and not h.first_divergent_layer for h in hops)


def test_another_model_is_found_out_at_its_first_other_layer(
    residual: Program, images: torch.Tensor, tmp_path: Path
) -> None:
    (path,) = write_files(residual, tmp_path, ["onnx"]).paths.values()
    model = onnx.load(path)
    weight = next(t for t in model.graph.initializer if t.name == "inner.weight")
    weight.raw_data = (np.frombuffer(weight.raw_data, np.float32) * 1.5).tobytes()
    onnx.save(model, tmp_path / "other.onnx")
    places = [(p.name, p, load("local-cpu")) for p in (path, tmp_path / "other.onnx")]
    hops, _ = agreement(places, {"image": images[:8].numpy()})
    assert [h.first_divergent_layer for h in hops] == ["", "conv2d_1"]


def test_without_an_onnx_file_the_first_place_is_the_origin(
    residual: Program, images: torch.Tensor, tmp_path: Path
) -> None:
    (path,) = write_files(residual, tmp_path, ["pt2"]).paths.values()
    places = [(name, path, load("torch-eager")) for name in ("a", "b")]
    hops, why = agreement(places, {"image": images[:8].numpy()})
    assert why == "no ONNX file among them"
    assert [(h.first, h.second, h.max_abs) for h in hops] == [("a on torch-eager", "b on torch-eager", 0.0)]


def test_operators_the_reference_lacks(tmp_path: Path) -> None:
    node = helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")
    border = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph([node], "g", border[:1], border[1:])
    onnx.save(helper.make_model(graph, opset_imports=sets, ir_version=8), tmp_path / "m.onnx")
    with pytest.raises(ToolError, match="the ONNX reference cannot run"):
        Reference(tmp_path / "m.onnx")
    x = {"x": np.ones((1, 4), np.float32)}
    hops, why = agreement([("m", tmp_path / "m.onnx", load("local-cpu"))], x)
    assert hops == () and why
