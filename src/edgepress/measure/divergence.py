"""Where two hops of a model part ways: the first intermediate tensor that differs.

Both hops are traced: every intermediate value by name. ONNX files written by edgepress keep the names of the program's
nodes, so that a program, its ONNX file, and that file on any runtime and target can be held against each other.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgepress.errors import UserError
from edgepress.targets import Target
from edgepress.targets.runtimes import Array, open_session

if TYPE_CHECKING:
    from edgepress.ir import Program

# Largest error, as a share of the tensor's own range, that rounding in another order may leave.
TOLERANCE = 1e-3
Trace = dict[str, Array]


class Divergence(NamedTuple):
    """The first tensor that differs: its name, largest error, and that error as a share of the tensor's range."""

    layer: str
    max_abs: float
    relative: float


def trace_program(program: Program, inputs: Mapping[str, Array]) -> Trace:
    """Every floating-point value of a program for one batch, in order of execution."""
    import torch

    module = program.module()
    recorder = _recorder(module)
    with torch.no_grad():
        recorder.run(*(torch.from_numpy(inputs[name]) for name in program.input_names))
    return dict(recorder.values)


def trace_onnx(artifact: Path, target: Target, inputs: Mapping[str, Array]) -> Trace:
    """Every floating-point value of an ONNX file on a target, for one batch, in the order of the graph.

    Values that are looked at cannot be fused away: this is the graph as it is written, not as it runs fastest. What a
    fusion does to the answer shows in the outputs alone.
    """
    with tempfile.TemporaryDirectory() as folder:
        opened = Path(folder) / artifact.name
        _with_all_outputs(artifact, opened)
        session = open_session(opened, target)
        try:
            return dict(zip(session.output_names, session.run(inputs), strict=True))
        finally:
            session.close()


def first_divergence(first: Trace, second: Trace, *, tolerance: float = TOLERANCE) -> Divergence | None:
    """The first tensor, in the order of `second`, that both have and that differs by over `tolerance` of its range.

    Raises:
        UserError: the traces have no tensor in common.
    """
    shared = [name for name in second if name in first and first[name].shape == second[name].shape]
    if not shared:
        raise UserError("traces cannot be compared", found="no tensor in common", expected="two hops of one model")
    for name in shared:
        found = _difference(name, first[name], second[name])
        if not found.relative <= tolerance:  # NaN differs, too
            return found
    return None


def _difference(name: str, ours: Array, theirs: Array) -> Divergence:
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    if not a.size:
        return Divergence(name, 0.0, 0.0)
    error = float(np.abs(a - b).max())
    span = float(np.abs(a).max())
    return Divergence(name, error, error / span if span else error)


def _recorder(module: Any) -> Any:
    import torch
    from torch.fx import Interpreter, Node

    class Recorder(Interpreter):
        """Runs a graph and keeps what its operations return."""

        def __init__(self) -> None:
            super().__init__(module)
            self.values: Trace = {}

        def run_node(self, n: Node) -> Any:
            value = super().run_node(n)
            if n.op == "call_function" and isinstance(value, torch.Tensor) and value.is_floating_point():
                self.values[n.name] = value.float().numpy()
            return value

    return Recorder()


def _with_all_outputs(source: Path, path: Path) -> None:
    """A copy of an ONNX file that gives every floating-point value it computes, in order, and nothing else."""
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(source))
    known = {value.name: value for value in (*model.graph.value_info, *model.graph.output)}
    computed = [name for node in model.graph.node for name in node.output if name in known]
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    outputs = [known[name] for name in computed if known[name].type.tensor_type.elem_type in floats]
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    onnx.save(model, path)
