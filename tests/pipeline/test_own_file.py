"""Networks that come as ONNX files: with inputs that have no samples, and files that do better than their export."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgepress.importers.onnx import load as load_onnx
from edgepress.ir import Program
from edgepress.pipeline.first_samples import first_samples
from edgepress.pipeline.hops import run_program, run_session
from edgepress.pipeline.own_file import own_file_notes
from edgepress.targets import load
from edgepress.targets.runtimes import open_session

WIDTH = 64


@pytest.fixture
def stateful(tmp_path: Path) -> Path:
    """y = rate * (x @ w + state[0]), weights in float16; the batch of `state` (2, batch, width) is its second axis."""
    weight = np.random.default_rng(0).normal(size=(WIDTH, WIDTH)).astype(np.float16)
    nodes = [
        helper.make_node("Cast", ["half"], ["w"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Gather", ["state", "zero"], ["s"], axis=0),
        helper.make_node("Add", ["h", "s"], ["sum"]),
        helper.make_node("Mul", ["sum", "rate"], ["y"]),
    ]
    inputs = {"x": ["batch", WIDTH], "state": [2, "batch", WIDTH], "rate": []}
    graph = helper.make_graph(
        nodes, "stateful",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", WIDTH])],
        [numpy_helper.from_array(weight, "half"), numpy_helper.from_array(np.array(0), "zero")],
    )  # fmt: skip
    path = tmp_path / "stateful.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.fixture
def program(stateful: Path) -> Program:
    return load_onnx(stateful)


def test_a_sample_is_cut_along_the_batch_wherever_it_is(program: Program) -> None:
    assert [tuple(t.shape) for t in first_samples(program, program.example_inputs, 1)] == [(1, 64), (2, 1, 64), ()]
    assert [tuple(t.shape) for t in first_samples(program, program.example_inputs, 5)] == [(5, 64), (2, 5, 64), ()]


def test_inputs_without_samples_run_in_one_go(program: Program, stateful: Path) -> None:
    inputs = (torch.randn(3, WIDTH), torch.randn(2, 3, WIDTH), torch.tensor(0.5))
    (ours,) = run_program(program, inputs)
    (theirs,) = run_session(open_session(stateful, load("local-cpu")), inputs)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_run_from_such_a_file_says_that_it_is_smaller(edgepress, stateful: Path) -> None:
    assert edgepress("init", stateful.name, cwd=stateful.parent).returncode == 0
    settings = ["steps=[{export: {format: onnx, opset: 17}}]", "budgets=[]", "measure={accuracy: false, memory: false}"]
    words = [word for setting in settings for word in ("--set", setting)]
    done = edgepress("run", "recipe.yaml", *words, cwd=stateful.parent)
    assert done.returncode == 0, done.stderr
    told = " ".join(done.stdout.split())
    assert "stateful.onnx is smaller than its float export" in told


def test_a_file_that_does_not_run_there_is_passed_over(program: Program, stateful: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(stateful.read_bytes()[:-40])
    notes = list(own_file_notes(broken, stateful, load("local-cpu"), program))
    assert notes == []
