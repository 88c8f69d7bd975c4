import os
import zlib

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgepress.errors import UserError
from edgepress.measure.size import measure_kinds, measure_size


def values(*paths):
    return {m.name: m.value for m in measure_size(*paths)}


def test_a_file_and_what_it_packs_to(tmp_path):
    file = tmp_path / "model.onnx"
    content = bytes(10_000) + os.urandom(3_000_000)
    file.write_bytes(content)
    sizes = values(file)
    assert sizes["size_bytes"] == len(content)
    assert sizes["compressed_bytes"] == len(zlib.compress(content, 9))


def test_folders_and_companions_count_too(tmp_path):
    (tmp_path / "lib/src").mkdir(parents=True)
    (tmp_path / "lib/src/a.c").write_bytes(b"a" * 10)
    (tmp_path / "lib/b.h").write_bytes(b"b" * 20)
    (tmp_path / "weights.bin").write_bytes(b"c" * 30)
    assert values(tmp_path / "lib", tmp_path / "weights.bin")["size_bytes"] == 60


def test_sizes_are_counted_not_measured(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    assert {m.source for m in measure_size(tmp_path / "a")} == {"counted"}


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="no artifact at"):
        measure_size(tmp_path / "none")


def test_kinds_of_bytes_add_up(tmp_path):
    weights = [numpy_helper.from_array(np.zeros(shape, kind), kind) for shape, kind in ((100, "float32"), (50, "int8"))]
    graph = helper.make_graph([], "g", [], [], weights)
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    kinds = {m.name: m.value for m in measure_kinds(tmp_path / "m.onnx")}
    assert kinds["size_float32_bytes"] == 400 and kinds["size_int8_bytes"] == 50
    assert sum(kinds.values()) == (tmp_path / "m.onnx").stat().st_size  # type: ignore[arg-type]


def test_kinds_of_something_else(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"\xff\xff")
    with pytest.raises(UserError, match="not an ONNX file"):
        measure_kinds(tmp_path / "m.onnx")
