"""`edgepress measure` on a real file."""

import json

import numpy as np
import onnx
import pytest
import typer
from onnx import TensorProto, helper
from typer.testing import CliRunner

from edgepress.errors import UserError
from edgepress.measure.record import Measurement
from edgepress.report.survey import unknown
from edgepress_cli.measure import measure

app = typer.Typer()
app.command()(measure)


@pytest.fixture
def relu(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
    )
    path = tmp_path / "relu.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def run(*args: object) -> str:
    result = CliRunner().invoke(app, list(map(str, args)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_table_with_every_metric(relu):
    output = run(relu, "--runs", 5, "--cold-starts", 1)
    assert all(metric in output for metric in ("Size", "Latency", "Peak memory of the model", "Time to load"))


def test_artifacts_stand_side_by_side(relu, tmp_path):
    other = tmp_path / "again.onnx"
    other.write_bytes(relu.read_bytes())
    lines = run(relu, other, "--runs", 5, "--cold-starts", 0).splitlines()
    assert lines[0].split() == ["relu.onnx", "again.onnx"]
    size = next(line for line in lines if line.startswith("Size "))
    assert size.split()[1:] == [f"{relu.stat().st_size}", "B"] * 2


def test_a_reason_is_told_once():
    reason = "no meter"
    absent = [
        Measurement(name=name, value=None, unit="mJ", n=0, reason=reason) for name in ("energy_mj", "idle_power_w")
    ]
    assert unknown([*absent, *absent]) == ["not measured: Energy per inference; Idle power: no meter"]


def test_json_with_inputs_from_a_file(relu, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((7, 3), np.float32))
    data = json.loads(run(relu, "--runs", 5, "--cold-starts", 0, "--inputs", tmp_path / "x.npz", "--json"))
    names = [m["name"] for m in data["artifacts"]["relu.onnx"]]
    assert names[:3] == ["size_bytes", "compressed_bytes", "latency_ms"]
    assert data["environment"]["machine_class"]


def test_files_of_one_name_are_told_apart(relu, tmp_path):
    other = tmp_path / "other" / "relu.onnx"
    other.parent.mkdir()
    other.write_bytes(relu.read_bytes())
    data = json.loads(run(relu, other, "--runs", 2, "--cold-starts", 0, "--json"))
    assert list(data["artifacts"]) == [str(relu), str(other)]


def test_throughput_on_request(relu):
    data = json.loads(run(relu, "--runs", 2, "--cold-starts", 0, "--no-energy", "--callers", 2, "--json"))
    assert [m["name"] for m in data["artifacts"]["relu.onnx"]][-1] == "throughput_per_s"


def test_energy_is_left_out_on_request(relu):
    data = json.loads(run(relu, "--runs", 2, "--cold-starts", 0, "--no-energy", "--json"))
    assert not [m for m in data["artifacts"]["relu.onnx"] if "energy" in m["name"]]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["none.onnx"], 2, "no artifact at none.onnx"),
        (["{relu}", "--target", "lokal-cpu"], 2, "did you mean local-cpu"),
        (["{relu}", "--runs", "0"], 2, "0"),
        (["{relu}", "--target", "tensorrt"], 2, "tensorrt cannot run relu.onnx"),
        (["{relu}", "--target", "cuda"], 4, "CUDAExecutionProvider"),
    ],
)
def test_exit_codes(relu, edgepress, arguments, code, words):
    done = edgepress("measure", *(argument.format(relu=relu) for argument in arguments))
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert not done.stdout


@pytest.mark.parametrize("content", [b"", b"text", None])
def test_inputs_that_cannot_be_read(relu, tmp_path, content):
    path = tmp_path / "x.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as inputs"):
        run(relu, "--inputs", path)
