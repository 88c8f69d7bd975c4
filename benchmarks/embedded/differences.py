"""How far the generated C is from runtimes that compute the same files with float scales, in steps of the last integer.

    EDGEPRESS_DATA=... python benchmarks/embedded/differences.py [NETWORK ...]

QDQ `.onnx` runs in onnxruntime. A `.tflite` runs in LiteRT (`pip install ai-edge-litert`): with the kernels it takes by
itself (XNNPACK), and with its reference kernels. Half of the inputs are real where there are any. The C is stood in for
by the integer reference, whose bytes it has (exact.json).
"""

import argparse
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from networks import FILES, Network, Rows, networks

from edgepress.exporters.c import graph as g
from edgepress.exporters.c.export import read_graph, reference

INPUTS = 300
Runner = Callable[[Rows], Rows]  # int8 rows [n, bytes] -> the first output's integers [n, elements]


def inputs_of(network: Network, size: int) -> Rows:
    draw = np.random.default_rng(1)
    real = network.real[draw.permutation(len(network.real))[: INPUTS // 2]]
    return np.concatenate([real, draw.integers(-128, 128, (INPUTS - len(real), size))]).astype(np.int8)


def onnxruntime_runner(path: Path, graph: g.Graph) -> Runner:
    """Real numbers in, real numbers out: they lie on the output's grid."""
    import onnxruntime as ort

    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = session.get_inputs()
    tensors = [graph.tensor(name) for name in graph.inputs]
    y = graph.tensor(graph.outputs[0])

    def run(rows: Rows) -> Rows:
        found = []
        for row in rows:
            parts = np.split(row, np.cumsum([t.nbytes for t in tensors])[:-1])
            reals = [_real(graph, t, p) for t, p in zip(tensors, parts, strict=True)]
            feeds = {e.name: real.reshape(1, *e.shape[1:]) for e, real in zip(given, reals, strict=True)}
            result = np.asarray(session.run(None, feeds)[0], np.float64)
            found.append(np.rint(result / y.scale[0]).reshape(-1) + y.zero_point)
        return np.stack(found)

    return run


def _real(graph: g.Graph, tensor: g.Tensor, part: Rows) -> np.ndarray:
    """A flat input as the source model takes it."""
    if tensor.dtype == "int32":
        return part.view(np.int32).reshape(tensor.shape).astype(np.int64)
    real = ((part.astype(np.float64) - tensor.zero_point) * tensor.scale[0]).reshape(tensor.shape)
    moved = np.moveaxis(real, -1, 1) if tensor.name in graph.channels_last else real
    return moved.astype(np.float32)


def litert_runner(path: Path, *, reference_kernels: bool) -> Runner:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = OpResolverType.BUILTIN_REF if reference_kernels else OpResolverType.AUTO
    interpreter = Interpreter(str(path), experimental_op_resolver_type=kind)
    interpreter.allocate_tensors()
    given, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def run(rows: Rows) -> Rows:
        found = []
        for row in rows:
            interpreter.set_tensor(given["index"], row.reshape(given["shape"]).astype(given["dtype"]))
            interpreter.invoke()
            found.append(interpreter.get_tensor(result["index"]).reshape(-1).astype(np.int64))
        return np.stack(found)

    return run


def runners(network: Network, graph: g.Graph) -> dict[str, Runner]:
    if network.path.suffix == ".onnx":
        return {f"onnxruntime {version('onnxruntime')}": onnxruntime_runner(network.path, graph)}
    if find_spec("ai_edge_litert") is None:
        return {}
    name = f"LiteRT {version('ai-edge-litert')}"
    return {
        f"{name}, XNNPACK": litert_runner(network.path, reference_kernels=False),
        f"{name}, reference kernels": litert_runner(network.path, reference_kernels=True),
    }


def difference(ours: Rows, theirs: Rows, *, classes: bool) -> dict[str, Any]:
    """Two sets of integer outputs [n, elements]; `classes`: the largest says which."""
    steps = np.abs(ours.astype(np.int64) - theirs.astype(np.int64))
    return {
        "inputs": len(ours),
        "outputs": ours.size,
        "largest_steps": int(steps.max()),
        "share_different": round(float((steps > 0).mean()), 5),
        "changed_top1": int((ours.argmax(axis=1) != theirs.argmax(axis=1)).sum()) if classes else None,
    }


def compared(network: Network) -> dict[str, Any]:
    """Per runtime and rounding of the C. A missing runtime is said, not left out."""
    graph = read_graph(network.path)
    rows = inputs_of(network, sum(graph.tensor(name).nbytes for name in graph.inputs))
    found = runners(network, graph)
    if not found:
        return {"skipped": "LiteRT is not installed (pip install ai-edge-litert)"}
    size = graph.tensor(graph.outputs[0]).size
    theirs = {name: run(rows) for name, run in found.items()}
    result: dict[str, Any] = {}
    for rounding in ("double", "single"):
        ours = np.stack([reference(graph, row, rounding)[:size] for row in rows])
        for name, outputs in theirs.items():
            result.setdefault(name, {})[rounding] = difference(ours, outputs, classes=network.name != "ad")
    return result


def measured(names: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        return {network.name: compared(network) for network in networks(Path(folder), names)}


def summary(found: dict[str, Any]) -> list[str]:
    """One line per network, runtime and rounding."""
    lines = []
    for network, peers in found.items():
        if "skipped" in peers:
            lines.append(f"{network:11s} {peers['skipped']}")
            continue
        for peer, roundings in peers.items():
            for rounding, row in roundings.items():
                lines.append(
                    f"{network:11s} {rounding:7s} {peer:32s} up to {row['largest_steps']:2d} steps, "
                    f"{100 * row['share_different']:.2f} % differ, top-1 changed {row['changed_top1']}"
                )
    return ["", "steps of the last integer between the generated C and runtimes with float scales:", *lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=["quickstart", *FILES])
    print("\n".join(summary(measured(parser.parse_args().names))))


if __name__ == "__main__":
    main()
