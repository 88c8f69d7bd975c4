"""Is every byte right? The generated C against the integer reference, in thousands, per layer and end to end.

    EDGEPRESS_DATA=... python benchmarks/embedded/exact.py [NETWORK ...] [--graphs 2000] [--out FILE]

On the host every layer's output is compared for at least 2,000 inputs per network: random ones, saturating ones (all
lowest, all highest, both mixed) and real ones where there are any. Emulated cores run a part of them: the Cortex-M4 on
qemu end to end, a few also layer by layer on unicorn; RV32IMC on unicorn. `--graphs` draws random graphs as the tests
do. Networks already in the result file are kept if only others are named.
"""

import argparse
import ctypes
import importlib.util
import json
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from networks import FILES, Network, Rows, networks

from edgepress.errors import UserError
from edgepress.exporters.c import CArtifact, Options, export, interpret
from edgepress.exporters.c import graph as g
from edgepress.exporters.c.dead_channels import without_dead_channels
from edgepress.exporters.c.export import export_graph, read_graph, reference
from edgepress.exporters.c.rewrite import rewritten
from edgepress.targets.emulate import deploy

HERE = Path(__file__).parent
TESTS = HERE.parents[1] / "tests" / "exporters" / "c"
RANDOM, SATURATED = 1000, 200
LEAST = 2000  # inputs of a network on the host
ON_M4, ON_RV32, BY_LAYER = 320, 100, 20


def rows_of(network: Network, size: int) -> tuple[Rows, dict[str, int]]:
    """Inputs in an order in which every part has some of each kind, and how many of each."""
    draw = np.random.default_rng(0)
    mixed = draw.choice([-128, 127], (SATURATED - 2, size))
    kinds = {
        "saturated": np.concatenate([np.full((1, size), -128), np.full((1, size), 127), mixed]),
        "real": network.real,
    }
    kinds["random"] = draw.integers(-128, 128, (max(RANDOM, LEAST - SATURATED - len(network.real)), size))
    rows = np.concatenate(list(kinds.values())).astype(np.int8)
    return rows[draw.permutation(len(rows))], {kind: len(held) for kind, held in kinds.items()}


# --- host -----------------------------------------------------------------------------------------------------------


class Library:
    """An artifact compiled for this machine, run layer by layer."""

    def __init__(self, artifact: CArtifact, optimise: str = "-O2") -> None:
        path = artifact.folder / "model.so"
        sources = [str(artifact.folder / name) for name in artifact.manifest["sources"]]
        subprocess.run(["cc", optimise, "-shared", "-fPIC", "-o", str(path), *sources], check=True)
        library = ctypes.CDLL(str(path))
        self.layer = getattr(library, f"{artifact.name}_run_layer")
        self.layer.argtypes = [ctypes.c_void_p, ctypes.c_int]
        self.whole = getattr(library, f"{artifact.name}_run")
        self.whole.argtypes = [ctypes.c_void_p]
        self.memory = ctypes.create_string_buffer(artifact.arena_bytes + 8)
        self.base = (ctypes.addressof(self.memory) + 7) // 8 * 8
        self.manifest = artifact.manifest

    def load(self, row: Rows) -> None:
        at = 0
        for border in self.manifest["inputs"]:
            part = row[at : at + border["bytes"]]
            ctypes.memmove(self.base + border["offset"], part.tobytes(), border["bytes"])
            at += border["bytes"]

    def read(self, border: dict[str, Any]) -> Rows:
        return np.frombuffer(ctypes.string_at(self.base + border["offset"], border["bytes"]), np.int8)

    def by_layer(self, row: Rows) -> dict[str, Rows]:
        """Every layer's output, by the layer's name."""
        self.load(row)
        found = {}
        for index, layer in enumerate(self.manifest["layers"]):
            self.layer(self.base, index)
            if layer["function"]:
                found[layer["name"]] = self.read(layer["output"])
        return found

    def run(self, row: Rows) -> Rows:
        self.load(row)
        self.whole(self.base)
        return np.concatenate([self.read(border) for border in self.manifest["outputs"]])


def expected_layers(graph: g.Graph, row: Rows) -> dict[str, Rows]:
    """The reference's output of every layer of a graph."""
    x = graph.tensor(graph.inputs[0])
    values = interpret.run(graph, {x.name: row.reshape(x.shape)})
    return {op.name: values[op.output].reshape(-1).astype(np.int8) for op in graph.ops}


def on_host(network: Network, rows: Rows, expected: Rows) -> dict[str, Any]:
    """Every layer of every row, as it runs: without dead channels. Outputs compare with those of the whole graph."""
    work = rewritten(without_dead_channels(read_graph(network.path), "double"))
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        artifact = export(network.path, Path(folder), options=Options(target="host", name=network.name))
        library = Library(artifact)
        for row, whole in zip(rows, expected, strict=True):
            layers, found = expected_layers(work, row), library.by_layer(row)
            counts["layer_outputs"] += len(found)
            counts["layer_bytes"] += sum(len(part) for part in found.values())
            counts["wrong_layer_bytes"] += sum(int((layers[name] != part).sum()) for name, part in found.items())
            counts["wrong"] += int((library.run(row) != whole).sum())
    return {"inputs": len(rows), "bytes": expected.size, **counts}


# --- emulated cores ---------------------------------------------------------------------------------------------------


def on_core(network: Network, core: str, rows: Rows, expected: Rows, engine: Any = "auto") -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        export(network.path, Path(folder), options=Options(target=core, name=network.name))
        found = deploy(Path(folder), rows, engine=engine)
    wrong = int((found.outputs != expected).sum())
    return {"inputs": len(rows), "engine": found.engine, "bytes": expected.size, "wrong": wrong}


def by_layer_on_core(network: Network, core: str, rows: Rows) -> dict[str, Any]:
    work = rewritten(without_dead_channels(read_graph(network.path), "double"))
    with tempfile.TemporaryDirectory() as folder:
        export(network.path, Path(folder), options=Options(target=core, name=network.name))
        found = deploy(Path(folder), rows, by_layer=True, counted=0)
    layers = [expected_layers(work, row) for row in rows]
    pairs = [(part, np.stack([row[name] for row in layers])) for name, part in found.layer_outputs.items()]
    wrong = sum(int((part != theirs).sum()) for part, theirs in pairs)
    size = sum(part.size for part, _ in pairs)
    return {"inputs": len(rows), "engine": found.engine, "layer_bytes": size, "wrong_layer_bytes": wrong}


def compared(network: Network) -> dict[str, Any]:
    """The row of one network."""
    graph = read_graph(network.path)
    rows, kinds = rows_of(network, graph.tensor(graph.inputs[0]).size)
    expected = np.stack([reference(graph, row) for row in rows])
    row = {"kinds": kinds, "host": on_host(network, rows, expected)}
    row["cortex-m4"] = on_core(network, "cortex-m4", rows[:ON_M4], expected[:ON_M4])
    row["cortex-m4, by layer"] = by_layer_on_core(network, "cortex-m4", rows[:BY_LAYER])
    row["rv32imc"] = on_core(network, "rv32imc", rows[-ON_RV32:], expected[-ON_RV32:], "unicorn")
    return row


# --- random graphs ----------------------------------------------------------------------------------------------------


def tests_module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TESTS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def random_graphs(count: int, known: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Graphs as the tests draw them: chains of image operators, sequence operators, sums; both roundings in turn.

    Goes on behind what is known, and yields after every hundred: a run that is cut short is not lost.
    """
    chains, sequences, sums = (tests_module(name) for name in ("conftest", "test_sequence_ops", "test_sums"))
    makers = [*sequences.MAKERS.values(), *sums.MAKERS.values()]
    counts = Counter({name: n for name, n in known.items() if name != "operators"})
    operators = Counter[str](known.get("operators", {}))
    start = time.perf_counter() - counts.pop("seconds", 0)
    for seed in range(counts["graphs"], count):
        draw = np.random.default_rng(seed)
        pick = seed % 2 == 0
        graph = chains.GraphBuilder(seed).build() if pick else makers[seed // 2 % len(makers)](draw)
        outcome = random_graph(graph, draw, "single" if seed // 2 % 2 else "double")
        counts += Counter({"graphs": 1}) + outcome
        if "refused" not in outcome:
            operators += Counter(type(op).__name__ for op in graph.ops)
        if (seed + 1) % 100 == 0 or seed + 1 == count:
            seconds = round(time.perf_counter() - start)
            yield {"wrong": 0, **counts, "operators": dict(operators), "seconds": seconds}


def random_graph(graph: g.Graph, draw: np.random.Generator, rounding: Any) -> Counter[str]:
    size = sum(graph.tensor(name).nbytes for name in graph.inputs)
    extremes = [np.full((1, size), value) for value in (-128, 127)]
    rows = np.concatenate([draw.integers(-128, 128, (8, size)), *extremes]).astype(np.int8)
    with tempfile.TemporaryDirectory() as name:
        stand_in = Path(name) / "drawn.onnx"
        stand_in.write_bytes(b"drawn")
        options = Options(target="host", rounding=rounding, golden=1)
        try:
            artifact = export_graph(graph, stand_in, Path(name) / "c", options=options)
        except UserError:
            return Counter({"refused": 1})  # sums that may leave 32 bits
        library = Library(artifact, "-O1")
        found = np.stack([library.run(row) for row in rows])
    expected = np.stack([reference(graph, row, rounding) for row in rows])
    return Counter({"inputs": len(rows), "bytes": expected.size, "wrong": int((found != expected).sum())})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[*FILES, "quickstart"])
    parser.add_argument("--graphs", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "exact.json")
    options = parser.parse_args()
    record = json.loads(options.out.read_text()) if options.out.exists() else {"networks": {}}
    with tempfile.TemporaryDirectory() as folder:
        for network in networks(Path(folder), [name for name in options.names if name != "none"]):
            record["networks"][network.name] = compared(network)
            print(network.name, json.dumps(record["networks"][network.name]), flush=True)
            options.out.write_text(json.dumps(record, indent=1) + "\n")
    for found in random_graphs(options.graphs, record.get("random_graphs", {})):
        record["random_graphs"] = found
        options.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record.get("random_graphs")))


if __name__ == "__main__":
    main()
