"""Bare files: what the reader of ONNX bytes counts, and what it refuses. The onnx package is the judge."""

import json
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgepress.errors import UserError
from edgepress.gate.artifact import artifact_evidence, describe_artifact
from edgepress.gate.load import load_budgets, load_evidence
from edgepress.gate.onnx_wire import read_onnx


def save(path: Path, nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto], **options: object) -> Path:
    shape = ["n", 4]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], weights)
    onnx.save_model(helper.make_model(graph), path, **options)
    return path


def weight(name: str, *shape: int, dtype: type = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ones(shape, dtype), name)


def test_weights_count_and_shapes_do_not(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Reshape", ["h", "shape"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, [weight("w", 4, 4), weight("shape", 2, dtype=np.int64)])
    assert read_onnx(path) == (16, 2, ())


def test_constants_and_subgraphs_count(tmp_path: Path) -> None:
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=weight("", 3, 5)), helper.make_node("Identity", ["c"], ["d"])],
        "then",
        [],
        [helper.make_tensor_value_info("d", TensorProto.FLOAT, [3, 5])],
    )
    nodes = [helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)]
    assert read_onnx(save(tmp_path / "m.onnx", nodes, [])) == (30, 5, ())


def test_scales_and_zero_points_do_not_count(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["f"]),
        helper.make_node("MatMul", ["x", "f"], ["y"]),
    ]
    weights = [weight("w", 4, 4, dtype=np.int8), weight("s", 4), weight("z", 4, dtype=np.int8)]
    assert read_onnx(save(tmp_path / "m.onnx", nodes, weights)).params == 16


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, 300), max_size=4), max_size=5))
def test_any_shapes(tmp_path_factory: pytest.TempPathFactory, shapes: list[list[int]]) -> None:
    weights = [TensorProto(name=f"w{i}", data_type=TensorProto.FLOAT, dims=shape) for i, shape in enumerate(shapes)]
    path = save(tmp_path_factory.mktemp("m") / "m.onnx", [helper.make_node("Identity", ["x"], ["y"])], weights)
    assert read_onnx(path).params == sum(int(np.prod(shape)) for shape in shapes)


def test_external_weights_belong_to_the_size(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = save(
        tmp_path / "m.onnx",
        nodes,
        [weight("w", 64, 64)],
        save_as_external_data=True,
        location="w.bin",
        size_threshold=0,
    )
    size = describe_artifact(path).measurement("size_bytes")
    assert size and size.value == path.stat().st_size + 64 * 64 * 4
    (tmp_path / "w.bin").unlink()
    with pytest.raises(UserError, match="external weights are missing"):
        describe_artifact(path)


@pytest.mark.parametrize("cut", [0, 1, 7, 100, -1])
def test_a_broken_file_is_refused(tmp_path: Path, cut: int) -> None:
    path = save(tmp_path / "m.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], [weight("w", 64, 4)])
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match="is not an ONNX model"):
        describe_artifact(path)


def test_text_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_text("<html>404 not found</html>")
    with pytest.raises(UserError, match="is not an ONNX model"):
        describe_artifact(path)


@pytest.mark.parametrize("name", ["m.engine", "m.plan", "m.tflite", "m.ort"])
def test_other_files_have_a_size(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"0" * 1234)
    subject = describe_artifact(tmp_path / name)
    assert [(m.name, m.value) for m in subject.measurements] == [("size_bytes", 1234)]


def test_openvino_weights_lie_beside(tmp_path: Path) -> None:
    (tmp_path / "m.xml").write_bytes(b"0" * 100)
    (tmp_path / "m.bin").write_bytes(b"0" * 900)
    size = describe_artifact(tmp_path / "m.xml").measurement("size_bytes")
    assert size and size.value == 1000


def test_a_c_library_is_a_folder_of_sources(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "model.c").write_text("int x;")
    (tmp_path / "model.h").write_text("extern int x;")
    subject = describe_artifact(tmp_path)
    size = subject.measurement("size_bytes")
    assert subject.format == "c" and size and size.value == 19


def figures(path: Path) -> dict[str, float | None]:
    return {m.name: m.value for m in describe_artifact(path).measurements}


def test_a_pt2_archive_tells_its_parameters(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)).eval()
    torch.export.save(torch.export.export(network, (torch.zeros(3, 4),)), tmp_path / "m.pt2")
    assert figures(tmp_path / "m.pt2")["params"] == sum(p.numel() for p in network.parameters())


def test_compiled_code_has_a_size(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt2", "w") as archive:
        archive.writestr("data/aotinductor/model/code.so", b"0" * 1000)
    assert figures(tmp_path / "m.pt2") == {"size_bytes": (tmp_path / "m.pt2").stat().st_size}


@pytest.mark.parametrize("table", ["", "[]", '{"config": {"w": {}}}', '{"config": {"w": {"is_param": true}}}'])
def test_a_broken_pt2_archive_is_refused(tmp_path: Path, table: str) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt2", "w") as archive:
        archive.writestr("data/weights/model_weights_config.json", table)
    with pytest.raises(UserError, match=r"is not a \.pt2 archive"):
        describe_artifact(tmp_path / "m.pt2")
    (tmp_path / "m.pt2").write_bytes(b"0" * 10)
    with pytest.raises(UserError, match=r"is not a \.pt2 archive"):
        describe_artifact(tmp_path / "m.pt2")


def test_a_generated_library_states_its_memory(tmp_path: Path) -> None:
    manifest = {"format": "edgepress-c", "arena_bytes": 6224, "constant_bytes": 35580, "layers": [{"macs": 3}] * 2}
    (tmp_path / "model.c").write_text("int x;")
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    known = figures(tmp_path)
    assert (known["arena_bytes"], known["constant_bytes"], known["macs"]) == (6224, 35580, 6)


def test_a_foreign_manifest_says_nothing_and_a_broken_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.c").write_text("int x;")
    (tmp_path / "manifest.json").write_text('{"name": "somebody else"}')
    assert set(figures(tmp_path)) == {"size_bytes"}
    (tmp_path / "manifest.json").write_text('{"format": "edgepress-c"}')
    with pytest.raises(UserError, match="is broken"):
        describe_artifact(tmp_path)


@pytest.mark.parametrize("name", ["missing.onnx", "notes.txt", ""])
def test_what_is_no_artifact(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError):
        describe_artifact(tmp_path / name)


def test_evidence_of_a_run_is_read_and_nan_is_not(tmp_path: Path) -> None:
    (tmp_path / "m.engine").write_bytes(b"0" * 10)
    evidence = artifact_evidence(describe_artifact(tmp_path / "m.engine"))
    run = tmp_path / "run"
    run.mkdir()
    (run / "evidence.json").write_text(evidence.model_dump_json())
    assert load_evidence(run) == load_evidence(run / "evidence.json") == evidence
    (run / "evidence.json").write_text(evidence.model_dump_json().replace("10.0", "NaN"))
    with pytest.raises(UserError, match="cannot be used"):
        load_evidence(run)
    (run / "evidence.json").write_text('{"name": "half a fi')
    with pytest.raises(UserError, match="cannot be used"):
        load_evidence(run)
    with pytest.raises(UserError, match="No such file"):
        load_evidence(tmp_path / "other.json")


def test_budget_files(tmp_path: Path) -> None:
    file = tmp_path / "budgets.yaml"
    file.write_text("- {metric: size_bytes, max: 10}\n")
    assert len(load_budgets(file)) == 1
    file.write_text("model: {}\nbudgets:\n  - {metric: size_bytes, max: 10}\n")
    assert len(load_budgets(file)) == 1
    for text, words in (("[]", "no budgets"), ("", "no budgets"), ("model: {}", "no budgets"), ("[}", "not YAML")):
        file.write_text(text)
        with pytest.raises(UserError, match=words):
            load_budgets(file)
    with pytest.raises(UserError, match="No such file"):
        load_budgets(tmp_path / "none.yaml")


@pytest.mark.data
def test_real_files_agree_with_the_onnx_package(data_dir: Path) -> None:
    for path in sorted((data_dir / "mlperf_tiny" / "onnx").glob("*.onnx")):
        model = onnx.load(path)
        weights = [t for t in model.graph.initializer if t.data_type not in (7, 8, 9)]
        contents = read_onnx(path)
        assert contents.params == sum(int(np.prod(t.dims)) for t in weights)
        assert contents.operators == len(model.graph.node)
