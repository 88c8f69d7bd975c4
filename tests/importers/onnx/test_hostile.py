"""Hostile and damaged files: a clear error, bounded memory and time, nothing outside the folder read, nothing run."""

import hashlib
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepress.errors import UserError
from edgepress.importers.onnx import Unsupported, to_module

Write = Callable[..., Path]


@pytest.fixture
def plain(write: Write) -> Path:
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="fc", transB=1)]
    weights = {"w": np.ones((4, 8), np.float32), "b": np.zeros(4, np.float32)}
    return write(nodes, {"x": [1, 8]}, ["y"], weights)


def external(folder: Path, location: str, *, offset: int = 0, length: int = 128, checksum: str = "") -> Path:
    """A model whose weight lies in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 8], data_location=TensorProto.EXTERNAL)
    facts = {"location": location, "offset": offset, "length": length, "checksum": checksum}
    for key, value in facts.items():
        if value != "":
            tensor.external_data.add(key=key, value=str(value))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph([helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)], "g", [x], [y], [tensor])
    path = folder / "external.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    return path


def test_every_truncation_is_an_error_or_a_whole_model(plain: Path, tmp_path: Path) -> None:
    data = plain.read_bytes()
    for length in range(0, len(data), 3):
        cut = tmp_path / "cut.onnx"
        cut.write_bytes(data[:length])
        with pytest.raises(UserError):
            to_module(cut, dynamic="none")


def test_a_missing_file_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.onnx cannot be read"):
        to_module(tmp_path / "nowhere.onnx")


def test_not_onnx_at_all(tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("import os; os.system('true')")
    with pytest.raises(UserError, match="damaged"):
        to_module(path)


@pytest.mark.parametrize(
    "location",
    ["../../etc/passwd", "/etc/passwd", "..\\..\\secret", "C:\\secret", "a/../../b", "", "\0", "link/passwd"],
)
def test_external_data_stays_in_the_folder(tmp_path: Path, location: str) -> None:
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(UserError, match="lies outside the model's folder"):
        to_module(external(tmp_path, location))


def test_external_data_is_read_from_the_folder(tmp_path: Path) -> None:
    values = np.arange(32, dtype=np.float32)
    (tmp_path / "w.bin").write_bytes(b"\0" * 16 + values.tobytes())
    digest = hashlib.sha1((tmp_path / "w.bin").read_bytes()).hexdigest()
    model = to_module(external(tmp_path, "w.bin", offset=16, checksum=digest))
    (weight,) = model.module.parameters()
    np.testing.assert_array_equal(weight.detach().numpy(), values.reshape(4, 8))


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"offset": 64}, "64 of a file of 128 bytes"),
        ({"length": 64}, "64 bytes at 0"),
        ({"length": "1e3"}, "length '1e3'"),
        ({"offset": -1}, "offset '-1'"),
        ({"checksum": "0" * 40}, "is not the file it should be"),
    ],
)
def test_external_data_must_fit(tmp_path: Path, facts: dict, message: str) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(128))
    with pytest.raises(UserError) as caught:
        to_module(external(tmp_path, "w.bin", **facts))
    assert message in str(caught.value)


def test_missing_external_data(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is missing"):
        to_module(external(tmp_path, "w.bin"))


def test_wrong_digest_of_the_file(plain: Path) -> None:
    to_module(plain, sha256=hashlib.sha256(plain.read_bytes()).hexdigest())
    with pytest.raises(UserError, match="is not the file it should be"):
        to_module(plain, sha256="0" * 64)


@pytest.mark.parametrize("opset", [1, 5, 99])
def test_unknown_opsets(write: Write, opset: int) -> None:
    with pytest.raises(Unsupported, match=f"opset {opset} is not one"):
        to_module(write([helper.make_node("Relu", ["x"], ["y"])], {"x": [1, 2]}, ["y"], opset=opset))


def test_no_opset(plain: Path) -> None:
    model = onnx.load(plain)
    del model.opset_import[:]
    plain.write_bytes(model.SerializeToString())
    with pytest.raises(UserError):
        to_module(plain)


def test_a_cycle(write: Write) -> None:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    with pytest.raises(UserError, match="inconsistent graph"):
        to_module(write(nodes, {"x": [1, 2]}, ["b"]))


def test_a_value_nothing_makes(write: Write) -> None:
    path = write([helper.make_node("Add", ["x", "ghost"], ["y"], name="sum")], {"x": [1, 2]}, ["y"])
    with pytest.raises(UserError, match="reads a value that nothing makes"):
        to_module(path)


def test_unknown_operators_are_named_together(write: Write) -> None:
    nodes = [helper.make_node("Foo", ["x"], ["a"]), helper.make_node("Bar", ["a"], ["y"], domain="my.domain")]
    with pytest.raises(Unsupported, match="operators this importer does not have") as caught:
        to_module(write(nodes, {"x": [1, 2]}, ["y"], domains=["my.domain"]))
    assert "Foo (1x), my.domain::Bar (1x)" in str(caught.value)


def test_strings_are_refused(write: Write) -> None:
    path = write([helper.make_node("Identity", ["x"], ["y"])], {"x": (TensorProto.STRING, [1])}, ["y"])
    with pytest.raises(Unsupported, match="element type"):
        to_module(path)


def _shape(*sizes: int) -> np.ndarray:
    return np.array(sizes, np.int64)


BOMBS = {
    "fill": ([helper.make_node("ConstantOfShape", ["s"], ["c"]), helper.make_node("Add", ["x", "c"], ["y"])],
             {"s": _shape(2**20, 2**20)}),
    "expand": ([helper.make_node("Expand", ["x", "s"], ["a"]), helper.make_node("Exp", ["a"], ["y"])],
               {"s": _shape(2**16, 2**16, 2)}),
    "tile": ([helper.make_node("Tile", ["x", "s"], ["y"])], {"s": _shape(2**20, 2**20)}),
    "pad": ([helper.make_node("Pad", ["x", "s"], ["y"])], {"s": _shape(0, 0, 2**40, 2**40)}),
    "range": ([helper.make_node("Range", ["a", "b", "c"], ["r"]), helper.make_node("Add", ["x", "r"], ["y"])],
              {"a": np.float32(0), "b": np.float32(1e18), "c": np.float32(1)}),
    "outer": ([helper.make_node("Expand", ["k", "s"], ["a"]), helper.make_node("MatMul", ["a", "a"], ["m"]),
               helper.make_node("Add", ["x", "m"], ["y"])],
              {"k": np.ones((1, 1), np.float32), "s": _shape(2**17, 2**17)}),
    "resize": ([helper.make_node("Resize", ["x", "", "f"], ["y"], mode="nearest")],
               {"f": np.array([2**20, 2**20], np.float32)}),
    "one hot": ([helper.make_node("Cast", ["x"], ["i"], to=7), helper.make_node("OneHot", ["i", "d", "v"], ["y"])],
                {"d": np.int64(2**50), "v": np.array([0, 1], np.float32)}),
    "random": ([helper.make_node("RandomNormal", [], ["r"], shape=[2**20, 2**20]),
                helper.make_node("Add", ["x", "r"], ["y"])], {}),
}  # fmt: skip


@pytest.mark.parametrize("kind", BOMBS)
def test_absurd_sizes_are_refused_before_memory_is_taken(write: Write, kind: str) -> None:
    nodes, weights = BOMBS[kind]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError):
        to_module(write(nodes, {"x": [1, 2]}, ["y"], weights))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 512 * 1024  # KiB


def test_absurd_input_shape(write: Write) -> None:
    with pytest.raises(Unsupported, match="absurdly large"):
        to_module(write([helper.make_node("Relu", ["x"], ["y"])], {"x": [2**30, 2**30]}, ["y"]))


@pytest.mark.parametrize("dims", [[-1, 4], [2**62, 2**62], [1] * 40, [5, 8]])
def test_stored_tensors_must_fit_their_shape(plain: Path, dims: list[int]) -> None:
    model = onnx.load(plain)
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend(dims)
    plain.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="damaged"):
        to_module(plain)


def test_an_endless_loop_is_refused(write: Write) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Add", ["s", "s"], ["t"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("s", TensorProto.FLOAT, [1, 2]),
        ],
        [
            helper.make_tensor_value_info("d", TensorProto.BOOL, []),
            helper.make_tensor_value_info("t", TensorProto.FLOAT, [1, 2]),
        ],
    )
    nodes = [helper.make_node("Loop", ["", "true", "x"], ["y"], body=body)]
    with pytest.raises(Unsupported, match="a loop"):
        to_module(write(nodes, {"x": [1, 2]}, ["y"], {"true": np.array(True)}))


def test_a_function_that_calls_itself(tmp_path: Path) -> None:
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    node = helper.make_node("Again", ["a"], ["b"], domain="own")
    again = helper.make_function("own", "Again", ["a"], ["b"], [node], imports)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Again", ["x"], ["y"], domain="own")], "g", [x], [y])
    path = tmp_path / "recursive.onnx"
    path.write_bytes(helper.make_model(graph, functions=[again], opset_imports=imports).SerializeToString())
    with pytest.raises(UserError):
        to_module(path)


def test_importing_runs_nothing(write: Write, tmp_path: Path) -> None:
    """Names and texts of the file that look like code stay names and texts: audited in a process of its own."""
    nodes = [
        helper.make_node("Relu", ["x"], ["y"], name="__import__('os').system('touch owned')", doc_string="exec(1)")
    ]
    path = write(nodes, {"x": [1, 2]}, ["y"])
    script = (
        "import sys\n"
        "from edgepress.importers.onnx import to_module\n"
        "to_module(sys.argv[1])\n"  # warm: torch imports modules lazily, which compiles code of its own
        "names = {'os.system', 'subprocess.Popen', 'os.exec', 'os.posix_spawn', 'socket.connect'}\n"
        "seen = []\n"
        "sys.addaudithook(lambda event, args: seen.append(event) if event in names else None)\n"
        "to_module(sys.argv[1])\n"
        "assert not seen, seen\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", script, str(path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not (tmp_path / "owned").exists()


def test_numbers_that_are_not_stored_as_declared(plain: Path) -> None:
    model = onnx.load(plain)
    tensor = model.graph.initializer[0]
    values = numpy_helper.to_array(tensor).reshape(-1)[:7]
    tensor.ClearField("raw_data")
    tensor.float_data.extend(values.tolist())
    plain.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="cannot be decoded"):
        to_module(plain)
