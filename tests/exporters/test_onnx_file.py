"""ONNX on disk: small models in one file, large ones with their weights beside it."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgepress.errors import UserError
from edgepress.exporters.onnx import OnnxOptions, export_onnx
from edgepress.exporters.onnx_file import ALIGNMENT, EXTERNAL_ABOVE, write_model
from edgepress.ir import Program
from edgepress.measure.size import measure_size
from edgepress.targets.companions import companions


def test_weights_lie_beside_a_large_model(residual: Program, images: torch.Tensor, tmp_path: Path) -> None:
    artifact = export_onnx(residual, tmp_path / "m.onnx", options=OnnxOptions(external_above=1000))
    (data,) = companions(artifact.path)
    assert data.name == "m.onnx.data"
    model = onnx.load(artifact.path, load_external_data=False)
    outside = [t for t in model.graph.initializer if t.data_location == TensorProto.EXTERNAL]
    places = [{e.key: e.value for e in t.external_data} for t in outside]
    assert outside and all(place["location"] == "m.onnx.data" for place in places)
    assert all(int(place["offset"]) % ALIGNMENT == 0 for place in places)
    answer = ort.InferenceSession(str(artifact.path)).run(None, {"image": images.numpy()})[0]
    assert np.allclose(answer, residual(images), atol=1e-5)
    (size, _) = measure_size(artifact.path, data)
    assert size.value == artifact.manifest["size_bytes"]
    assert artifact.digest == hashlib.sha256(data.read_bytes() + artifact.path.read_bytes()).hexdigest()


def test_equal_models_give_equal_files(residual: Program, tmp_path: Path) -> None:
    options = OnnxOptions(external_above=1000)
    first, second = (export_onnx(residual, tmp_path / f / "m.onnx", options=options) for f in "ab")
    assert first.digest == second.digest


def test_a_model_that_shrank_leaves_no_weights_behind(residual: Program, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    export_onnx(residual, path, options=OnnxOptions(external_above=1000))
    export_onnx(residual, path)
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_a_place_that_cannot_be_written(residual: Program, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        export_onnx(residual, tmp_path / "file/m.onnx", options=OnnxOptions(external_above=1000))


@pytest.mark.slow
def test_more_than_protobuf_carries(tmp_path: Path) -> None:
    """Two matrices of 1.1 GB: 2.2 GB of weights, over the limit of one protobuf message."""
    rows, columns = 16, 17_500_000
    weights = [np.full((rows, columns), value, np.float32) for value in (1, 2)]
    nodes = [helper.make_node("MatMul", ["x", f"w{i}"], [f"y{i}"]) for i in range(2)]
    border = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, rows])]
    out = [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, [1, columns]) for i in range(2)]
    tensors = [numpy_helper.from_array(weight, f"w{i}") for i, weight in enumerate(weights)]
    model = helper.make_model(
        helper.make_graph(nodes, "large", border, out, tensors), opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )  # fmt: skip
    written = write_model(model, tmp_path / "large.onnx")
    assert written.size_bytes > 2**31 > EXTERNAL_ABOVE
    assert (tmp_path / "large.onnx").stat().st_size < 10_000
    session = ort.InferenceSession(str(tmp_path / "large.onnx"), providers=["CPUExecutionProvider"])
    first, second = session.run(None, {"x": np.ones((1, rows), np.float32)})
    assert (first == rows).all() and (second == 2 * rows).all()
