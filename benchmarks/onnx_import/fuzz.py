"""Feed the importers with damaged files, and count: every answer must be a network or a user error, soon and in bounds.

    python benchmarks/onnx_import/fuzz.py [--inputs 4000] [--seconds 900] [--out benchmarks/onnx_import/fuzz.json]

A run that stopped at its time is taken up where it stopped, by the same command; `--again` starts from the first input.
Seeds are small networks written here, and the smallest files below EDGEPRESS_DATA/onnx. ONNX files are damaged as bytes
and as graphs (operators, edges, attributes, sizes, stored numbers exchanged); safetensors, state dicts and `.pt2`
archives as bytes. The process may not take more than 8 GiB, and no input more than 60 seconds of processor time.
"""

import argparse
import copy
import json
import os
import resource
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from safetensors.torch import save_file

from edgepress.errors import UserError
from edgepress.importers.onnx.convert import Options, choose_inputs, read_network
from edgepress.importers.onnx.table import claimed
from edgepress.importers.weights import read_weights
from edgepress.ir.serde import load_archive

MEMORY, PATIENCE = 8 << 30, 60
SETTLING = 100
REAL_SEEDS, LARGEST = 4, 400_000
SUFFIXES = {"safetensors": "safetensors", "state": "pt", "pt2": "pt2", "onnx": "onnx"}
ATTRIBUTES = ("axis", "axes", "pads", "strides", "group", "kernel_shape", "perm", "mode", "to", "value", "hidden_size")
ABSURD = (2**31, -(2**31), 2**62, -(2**63), 2**40)

Attempt = Callable[[Path], object]


class TooSlowError(Exception):
    """An input took more than its time."""


def import_onnx(path: Path) -> None:
    """Everything the importer does up to a run on shapes; exporting adds nothing that reads the file."""
    choose_inputs(read_network(path, Options()), Options())


def seeds(folder: Path) -> list[tuple[str, Attempt, bytes]]:
    """(kind, importer, content of a sound file)."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(64, 3))
    save_file(network.state_dict(), folder / "w.safetensors")
    torch.save(network.state_dict(), folder / "w.pt")
    torch.export.save(torch.export.export(network.eval(), (torch.randn(2, 1, 6, 6),)), folder / "m.pt2")
    found: list[tuple[str, Attempt, bytes]] = [
        ("safetensors", read_weights, (folder / "w.safetensors").read_bytes()),
        ("state dict", read_weights, (folder / "w.pt").read_bytes()),
        ("pt2", load_archive, (folder / "m.pt2").read_bytes()),
        ("onnx", import_onnx, small_model().SerializeToString()),
    ]
    real = sorted(Path(os.environ.get("EDGEPRESS_DATA", "/nonexistent")).glob("onnx/*.onnx"), key=_size)
    small = [path for path in real if _size(path) < LARGEST][:REAL_SEEDS]
    return [*found, *(("onnx", import_onnx, path.read_bytes()) for path in small)]


def _size(path: Path) -> int:
    return path.stat().st_size


def small_model() -> onnx.ModelProto:
    """Convolution, shape arithmetic, Reshape, a recurrent layer, a linear layer."""
    draw = np.random.default_rng(0)
    shapes = {"w": (4, 1, 3, 3), "lw": (1, 12, 36), "lr": (1, 12, 3), "fw": (3, 2)}
    stored = [numpy_helper.from_array(draw.normal(size=s).astype(np.float32), n) for n, s in shapes.items()]
    numbers = {"zero": 0, "tail": [-1], "one": [1], "axes": [0]}
    stored += [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in numbers.items()]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Shape", ["c"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["g"]),
        helper.make_node("Unsqueeze", ["g", "axes"], ["u"]),
        helper.make_node("Concat", ["u", "one", "tail"], ["to"], axis=0),
        helper.make_node("Reshape", ["c", "to"], ["r"]),
        helper.make_node("Transpose", ["r"], ["q"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["q", "lw", "lr"], ["", "h"], hidden_size=3),
        helper.make_node("Squeeze", ["h", "axes"], ["k"]),
        helper.make_node("MatMul", ["k", "fw"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 1, 6, 6])
    graph = helper.make_graph(nodes, "seed", [x], [helper.make_empty_tensor_value_info("y")], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


# -- damage ------------------------------------------------------------------------------------------------------------


def damaged_bytes(data: bytes, draw: np.random.Generator) -> bytes:
    """One to three places overwritten, removed, repeated or filled, or the end cut off."""
    result = bytearray(data)
    for _ in range(int(draw.integers(1, 4))):
        at, length = int(draw.integers(len(result))), int(draw.integers(1, 9))
        match int(draw.integers(7)):
            case 0 | 5 | 6:
                result[at : at + length] = draw.bytes(length)
            case 1:
                del result[at : at + length]
            case 2:
                result[at:at] = result[at : at + length]
            case 3:
                result[at:at] = draw.bytes(length)
            case _:
                del result[max(at, 1) :]
        if not result:
            break
    return bytes(result)


def damaged_graph(data: bytes, draw: np.random.Generator) -> bytes:
    """A sound message that says something else."""
    model = copy.deepcopy(onnx.ModelProto.FromString(data))
    for _ in range(int(draw.integers(1, 4))):
        node = model.graph.node[int(draw.integers(len(model.graph.node)))]
        match int(draw.integers(5)):
            case 0:
                node.op_type = str(draw.choice(claimed()))
            case 1 if node.input:
                names = [name for other in model.graph.node for name in (*other.input, *other.output)]
                node.input[int(draw.integers(len(node.input)))] = str(draw.choice(names))
            case 2:
                _other_attribute(node, draw)
            case 3 if model.graph.initializer:
                tensor = model.graph.initializer[int(draw.integers(len(model.graph.initializer)))]
                numbers = [_number(draw) for _ in range(int(draw.integers(5)))]
                tensor.CopyFrom(numpy_helper.from_array(np.array(numbers, np.int64), tensor.name))
            case _:
                sizes = model.graph.input[0].type.tensor_type.shape.dim
                if sizes:
                    sizes[int(draw.integers(len(sizes)))].dim_value = _number(draw)
    return model.SerializeToString()


def _other_attribute(node: onnx.NodeProto, draw: np.random.Generator) -> None:
    name = str(draw.choice(ATTRIBUTES))
    values: list[Any] = [_number(draw), [_number(draw) for _ in range(int(draw.integers(1, 6)))], "none"]
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, values[int(draw.integers(3))])])


def _number(draw: np.random.Generator) -> int:
    return int(draw.choice(ABSURD)) if draw.random() < 0.2 else int(draw.integers(-3, 10))


# -- the run -----------------------------------------------------------------------------------------------------------


@dataclass
class Findings:
    """What became of the inputs so far; written to a file, and read from it to go on.

    Attributes:
        inputs: how many were tried. counts: kind of file and answer -> how many. slowest_cpu_s, slowest: seconds of the
            slowest input, and its number. largest_growth_mib, largest: memory that one input took beyond what was held
            before it, and its number. kept_mib: what the process holds at the end beyond what it held after its first
            hundred inputs, for each run of the program: what leaks would add up to.
        defects: inputs that were answered with anything but a network or a user error.
    """

    inputs: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    slowest_cpu_s: float = 0.0
    slowest: int = -1
    largest_growth_mib: int = 0
    largest: int = -1
    kept_mib: list[int] = field(default_factory=list)
    defects: list[dict[str, Any]] = field(default_factory=list)

    def add(self, number: int, kind: str, said: str, seconds: float, growth: int) -> None:
        """One more input."""
        self.inputs += 1
        answer = f"{kind}: {said.split()[0].lower()}"
        self.counts[answer] = self.counts.get(answer, 0) + 1
        if seconds > self.slowest_cpu_s:
            self.slowest_cpu_s, self.slowest = round(seconds, 2), number
        if growth > self.largest_growth_mib:
            self.largest_growth_mib, self.largest = growth, number
        if said.startswith("DEFECT"):
            self.defects.append({"number": number, "kind": kind, "said": said})


def damaged(
    found: list[tuple[str, Attempt, bytes]], first: int, inputs: int
) -> Iterator[tuple[int, str, Attempt, bytes]]:
    """(number, kind, importer, content) of inputs in turns from all seeds."""
    for number in range(first, inputs):
        kind, attempt, data = found[number % len(found)]
        draw = np.random.default_rng(number)
        as_graph = kind == "onnx" and number // len(found) % 2
        content = (damaged_graph if as_graph else damaged_bytes)(data, draw)
        yield number, f"{kind} {'graph' if as_graph else 'bytes'}", attempt, content


def memory_mib() -> tuple[int, int]:
    """(held now, most since `forget_peak`), in MiB."""
    facts = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return tuple(int(facts[key].split()[0]) // 1024 for key in ("VmRSS", "VmHWM"))  # type: ignore[return-value]


def forget_peak() -> None:
    """Let the kernel measure the peak of memory anew (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


def judge(attempt: Attempt, path: Path) -> str:
    """What became of one input: "imported", "refused", or the defect."""
    signal.setitimer(signal.ITIMER_PROF, PATIENCE)
    try:
        attempt(path)
    except UserError:
        return "refused"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"DEFECT {type(error).__name__}: {str(error)[:160]}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return "imported"


def _out_of_time(*_: object) -> None:
    raise TooSlowError(f"more than {PATIENCE} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=4000)
    parser.add_argument("--seconds", type=float, default=900.0, help="stop after this much processor time")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "fuzz.json")
    parser.add_argument("--again", action="store_true", help="forget what an earlier run found")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGPROF, _out_of_time)
    found_before = json.loads(asked.out.read_text()) if asked.out.is_file() and not asked.again else {}
    findings = Findings(**found_before)
    with tempfile.TemporaryDirectory() as name:
        for _ in run(findings, Path(name), asked.inputs, asked.seconds):
            findings.counts = dict(sorted(findings.counts.items()))
            asked.out.write_text(json.dumps(asdict(findings), indent=1) + "\n")
    print(json.dumps(asdict(findings), indent=1))
    return int(bool(findings.defects))


def run(findings: Findings, folder: Path, inputs: int, seconds: float) -> Iterator[None]:
    """Go on from where the findings end, until so many inputs were tried or so much processor time was used.

    Stops now and then, so that what was found is written down.
    """
    found, start, settled = seeds(folder), process_time(), 0
    findings.kept_mib.append(0)
    for tried, (number, kind, attempt, data) in enumerate(damaged(found, findings.inputs, inputs)):
        path = folder / f"d.{SUFFIXES[kind.split()[0]]}"
        path.write_bytes(data)
        held = memory_mib()[0]
        forget_peak()
        began = process_time()
        said = judge(attempt, path)
        findings.add(number, kind, said, process_time() - began, memory_mib()[1] - held)
        if tried == SETTLING:
            settled = memory_mib()[0]
        if tried % SETTLING == 0:
            findings.kept_mib[-1] = memory_mib()[0] - settled if settled else 0
            yield
        if process_time() - start > seconds:
            break
    yield


if __name__ == "__main__":
    sys.exit(main())
