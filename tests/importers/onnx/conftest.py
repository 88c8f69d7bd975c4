"""Small ONNX files, written where a test wants them, and the coverage benchmark as a module."""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

COVERAGE = Path(__file__).resolve().parents[3] / "benchmarks" / "onnx_import" / "coverage.py"


def load_coverage() -> ModuleType:
    """benchmarks/onnx_import/coverage.py, imported once."""
    if "onnx_coverage" not in sys.modules:
        spec = importlib.util.spec_from_file_location("onnx_coverage", COVERAGE)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["onnx_coverage"] = module
        spec.loader.exec_module(module)
    return sys.modules["onnx_coverage"]


@pytest.fixture(scope="session")
def coverage() -> ModuleType:
    return load_coverage()


Shape = Sequence[int | str | None]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """write(nodes, inputs, outputs, weights) -> path of an .onnx file."""

    def make(
        nodes: Sequence[onnx.NodeProto],
        inputs: dict[str, Shape | tuple[int, Shape]],
        outputs: Sequence[str],
        weights: dict[str, Any] | None = None,
        *,
        opset: int = 17,
        name: str = "model.onnx",
        domains: Sequence[str] = (),
        also_inputs: bool = False,
    ) -> Path:
        stored = [numpy_helper.from_array(np.asarray(value), key) for key, value in (weights or {}).items()]
        entries = [_input(key, shape) for key, shape in inputs.items()]
        if also_inputs:
            entries += [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in stored]
        results = [helper.make_empty_tensor_value_info(key) for key in outputs]
        graph = helper.make_graph(list(nodes), "g", entries, results, stored)
        imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
        path = tmp_path / name
        onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=9), path)
        return path

    return make


def _input(name: str, shape: Any) -> onnx.ValueInfoProto:
    kind = TensorProto.FLOAT
    if isinstance(shape, tuple) and len(shape) == 2 and isinstance(shape[1], list):
        kind, shape = shape
    return helper.make_tensor_value_info(name, kind, list(shape))
