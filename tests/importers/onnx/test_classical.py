"""What scikit-learn's scalers and linear models become as ONNX: the answers of onnxruntime, and layers to press."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from edgepress.importers.onnx import OnnxModel, Unsupported, to_module

ML = "ai.onnx.ml"
X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def written(folder: Path, nodes: list[onnx.NodeProto], outputs: dict[str, int], dtype: int = TensorProto.FLOAT) -> Path:
    entries = [helper.make_tensor_value_info("x", dtype, [None, 3])]
    results = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()]
    graph = helper.make_graph(nodes, "g", entries, results)
    imports = [helper.make_opsetid("", 15), helper.make_opsetid(ML, 1)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), folder / "m.onnx")
    return folder / "m.onnx"


def check(path: Path, model: OnnxModel, x: np.ndarray) -> None:
    session = onnxruntime.InferenceSession(path.read_bytes())
    for name, found in zip(model.output_names, model.module(torch.from_numpy(x)), strict=True):
        expected = session.run([name], {"x": x})[0]
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-5, atol=1e-6)


SIMPLE = {
    "scaler": ("Scaler", {"offset": [0.1, 0.2, 0.3], "scale": [1.0, 2.0, 3.0]}),
    "scaler of one number": ("Scaler", {"offset": [0.5], "scale": [2.0]}),
    "normalizer by maximum": ("Normalizer", {"norm": "MAX"}),
    "normalizer by magnitudes": ("Normalizer", {"norm": "L1"}),
    "normalizer by length": ("Normalizer", {"norm": "L2"}),
    "binarizer": ("Binarizer", {"threshold": 0.25}),
    "regressor": ("LinearRegressor", {"coefficients": [1.0, -2.0, 0.5], "intercepts": [0.25]}),
    "regressor of two targets": ("LinearRegressor", {"coefficients": [1.0, 2, 3, 4, 5, 6], "targets": 2}),
}


@pytest.mark.parametrize("case", SIMPLE)
def test_one_operator(case: str, tmp_path: Path) -> None:
    kind, attributes = SIMPLE[case]
    path = written(tmp_path, [helper.make_node(kind, ["x"], ["y"], domain=ML, **attributes)], {"y": TensorProto.FLOAT})
    check(path, to_module(path), X)


def classifier(labels: dict[str, list], transform: str) -> onnx.NodeProto:
    weights = [0.1, 0.2, -0.3, -0.4, 0.5, 0.6, 0.7, -0.8, 0.9]
    return helper.make_node("LinearClassifier", ["x"], ["label", "scores"], domain=ML, coefficients=weights,
                            intercepts=[0.1, -0.1, 0.2], multi_class=1, post_transform=transform, **labels)  # fmt: skip


@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC"])
def test_a_classifier_is_a_layer_with_scores_and_labels(transform: str, tmp_path: Path) -> None:
    nodes = [classifier({"classlabels_ints": [3, 1, 7]}, transform)]
    path = written(tmp_path, nodes, {"label": TensorProto.INT64, "scores": TensorProto.FLOAT})
    model = to_module(path)
    check(path, model, X)
    assert sorted(tuple(p.shape) for p in model.module.parameters()) == [(3,), (3, 3)]


def test_a_pipeline_as_scikit_learn_exports_it(tmp_path: Path) -> None:
    """Text labels are left out, and scores come without the dictionary around them."""
    nodes = [
        helper.make_node("Scaler", ["x"], ["scaled"], domain=ML, offset=[0.0, 0.1, 0.2], scale=[1.0, 2.0, 0.5]),
        helper.make_node("LinearClassifier", ["scaled"], ["label", "raw"], domain=ML, coefficients=[0.5] * 6,
                         intercepts=[0.1, 0.4], classlabels_strings=["cat", "dog"], post_transform="SOFTMAX"),
        helper.make_node("Normalizer", ["raw"], ["normal"], domain=ML, norm="L1"),
        helper.make_node("ZipMap", ["normal"], ["probabilities"], domain=ML, classlabels_strings=["cat", "dog"]),
    ]  # fmt: skip
    path = written(tmp_path, nodes, {"label": TensorProto.STRING})
    proto = onnx.load(path)
    scores = proto.graph.output.add(name="probabilities")
    scores.type.sequence_type.elem_type.map_type.key_type = TensorProto.STRING
    scores.type.sequence_type.elem_type.map_type.value_type.tensor_type.elem_type = TensorProto.FLOAT
    onnx.save(proto, path)
    model = to_module(path)
    assert model.output_names == ("probabilities",)
    assert len([note for note in model.notes if "text" in note or "dictionary" in note]) == 2
    expected = onnxruntime.InferenceSession(path.read_bytes()).run(["probabilities"], {"x": X})[0]
    table = np.array([[row["cat"], row["dog"]] for row in expected])
    np.testing.assert_allclose(model.module(torch.from_numpy(X))[0].detach().numpy(), table, rtol=1e-5)


def test_one_row_for_two_classes_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("LinearClassifier", ["x"], ["label", "scores"], domain=ML, coefficients=[0.1, 0.2, 0.3],
                            intercepts=[0.1], classlabels_ints=[0, 1])  # fmt: skip
    path = written(tmp_path, [node], {"label": TensorProto.INT64, "scores": TensorProto.FLOAT})
    with pytest.raises(Unsupported, match="LinearClassifier"):
        to_module(path)


def test_trees_are_named(tmp_path: Path) -> None:
    node = helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain=ML)
    with pytest.raises(Unsupported) as caught:
        to_module(written(tmp_path, [node], {"y": TensorProto.FLOAT}))
    assert "TreeEnsembleRegressor" in caught.value.found
