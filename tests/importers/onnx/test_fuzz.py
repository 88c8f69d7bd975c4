"""Mutated files: whatever the bytes say, the importer answers with a model or a `UserError`, and nothing else."""

import copy
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgepress.errors import UserError
from edgepress.importers.onnx.convert import Options, bind, choose_inputs
from edgepress.importers.onnx.fold import fold
from edgepress.importers.onnx.layers import recognise_layers
from edgepress.importers.onnx.lower import lower
from edgepress.importers.onnx.read import read_model
from edgepress.importers.onnx.table import claimed

EXAMPLES = int(os.environ.get("EDGEPRESS_FUZZ", "300"))
tried = {"bytes": 0, "graphs": 0, "imported": 0}


def seed_model() -> onnx.ModelProto:
    """A small network with convolution, batch norm, pooling, shape arithmetic, a recurrent layer and an If."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(size=(4, 1, 3, 3)), "s": np.ones(4), "b": np.zeros(4), "m": np.zeros(4), "v": np.ones(4),
        "lw": rng.normal(size=(1, 12, 36)), "lr": rng.normal(size=(1, 12, 3)), "fw": rng.normal(size=(3, 2)),
    }  # fmt: skip
    stored = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    numbers = {
        "zero": np.array(0),
        "tail": np.array([-1]),
        "one": np.array([1]),
        "axes": np.array([0]),
        "yes": np.array(True),
    }
    stored += [numpy_helper.from_array(value, name) for name, value in numbers.items()]
    branch = helper.make_graph(
        [helper.make_node("Relu", ["f"], ["t"])], "then", [], [helper.make_empty_tensor_value_info("t")]
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["f"], ["e"])], "else", [], [helper.make_empty_tensor_value_info("e")]
    )
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1], strides=[1, 1]),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"]),
        helper.make_node("MaxPool", ["n"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Shape", ["p"], ["sh"]),
        helper.make_node("Gather", ["sh", "zero"], ["g"]),
        helper.make_node("Unsqueeze", ["g", "axes"], ["u"]),
        helper.make_node("Concat", ["u", "one", "tail"], ["to"], axis=0),
        helper.make_node("Reshape", ["p", "to"], ["r"]),
        helper.make_node("Transpose", ["r"], ["q"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["q", "lw", "lr"], ["", "h"], hidden_size=3),
        helper.make_node("Squeeze", ["h", "axes"], ["k"]),
        helper.make_node("MatMul", ["k", "fw"], ["f"]),
        helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=other),
    ]  # fmt: skip
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, 6, 6])
    graph = helper.make_graph(nodes, "seed", [x], [helper.make_empty_tensor_value_info("y")], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


SEED = seed_model()
BYTES = SEED.SerializeToString()


def attempt(path: Path) -> bool:
    """Import up to a run of the network; True if it went through."""
    try:
        network = recognise_layers(fold(bind(lower(read_model(path)), {})))
        choose_inputs(network, Options())
    except UserError as error:
        assert error.what
        return False
    tried["imported"] += 1
    return True


def test_the_seed_itself_imports(tmp_path: Path) -> None:
    path = tmp_path / "seed.onnx"
    path.write_bytes(BYTES)
    assert attempt(path)


@st.composite
def broken_bytes(draw: st.DrawFn) -> bytes:
    """The seed with bytes overwritten, removed, repeated or inserted."""
    data = bytearray(BYTES)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data) - 1))
        length = draw(st.integers(1, 8))
        match draw(st.sampled_from(["set", "cut", "copy", "insert"])):
            case "set":
                data[at : at + length] = draw(st.binary(min_size=length, max_size=length))
            case "cut":
                del data[at : at + length]
            case "copy":
                data[at:at] = data[at : at + length]
            case _:
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
        if not data:
            break
    return bytes(data)


fuzzing = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
)


@pytest.mark.slow
@fuzzing
@given(broken_bytes())
def test_mutated_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated.onnx"
    path.write_bytes(data)
    tried["bytes"] += 1
    attempt(path)


NUMBERS = st.one_of(st.integers(-3, 9), st.sampled_from([2**31, -(2**31), 2**62, -(2**63)]))


ATTRIBUTES = ("axis", "axes", "pads", "strides", "group", "kernel_shape", "perm", "mode")


@st.composite
def broken_graph(draw: st.DrawFn) -> onnx.ModelProto:
    """The seed with operators, edges, attributes, shapes and stored numbers exchanged."""
    model = copy.deepcopy(SEED)
    for _ in range(draw(st.integers(1, 2))):
        node = draw(st.sampled_from(list(model.graph.node)))
        match draw(st.sampled_from(["operator", "edge", "attribute", "tensor", "shape", "drop"])):
            case "operator":
                node.op_type = draw(st.sampled_from(claimed()))
            case "edge" if node.input:
                names = [name for other in model.graph.node for name in (*other.input, *other.output)]
                node.input[draw(st.integers(0, len(node.input) - 1))] = draw(st.sampled_from(names))
            case "attribute":
                name = draw(
                    st.sampled_from(["axis", "axes", "pads", "strides", "group", "kernel_shape", "perm", "mode"])
                )
                value = draw(st.one_of(NUMBERS, st.lists(NUMBERS, min_size=1, max_size=5), st.text(max_size=4)))
                kept = [attribute for attribute in node.attribute if attribute.name != name]
                del node.attribute[:]
                node.attribute.extend([*kept, helper.make_attribute(name, value)])
            case "tensor":
                tensor = draw(st.sampled_from(list(model.graph.initializer)))
                values = draw(st.lists(NUMBERS, max_size=4))
                tensor.CopyFrom(numpy_helper.from_array(np.array(values, np.int64), tensor.name))
            case "shape":
                size = model.graph.input[0].type.tensor_type.shape.dim[draw(st.integers(0, 3))]
                size.dim_value = draw(NUMBERS)
            case "drop" if len(model.graph.node) > 1:
                model.graph.node.remove(node)
    return model


@pytest.mark.slow
@fuzzing
@given(broken_graph())
def test_mutated_graphs(tmp_path_factory: pytest.TempPathFactory, model: onnx.ModelProto) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated.onnx"
    path.write_bytes(model.SerializeToString())
    tried["graphs"] += 1
    attempt(path)


@pytest.fixture(scope="module", autouse=True)
def report() -> object:
    """Say how many inputs were tried."""
    yield
    print("\nONNX fuzz:", ", ".join(f"{count} {what}" for what, count in tried.items()))
