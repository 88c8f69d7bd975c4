"""Where the time goes inside onnxruntime: what each kernel of the optimized graph takes."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import onnx

from edgepress.targets.runtimes.inputs import Array
from edgepress.targets.runtimes.onnxruntime_session import import_runtime, session_options
from edgepress.targets.target import Target

KERNEL = "_kernel_time"
LEAST, SECONDS = 4, 0.5
# What the optimizer adds to the names of nodes that it fuses or moves to another layout.
ADDED = re.compile(r"^(fused )?(?P<name>.*?)(_nchwc|_nhwc|_token_\d+|/[A-Z]\w*Fusion.*|_Insert\w+)*$")


@dataclass(frozen=True)
class KernelTime:
    """One kernel of the optimized graph.

    Attributes:
        value: the value of the file that it computes (the first output of the node it came from); "" where the
            optimizer made it up. op: operator of the optimized graph.
        microseconds: least over the runs, since neighbours on the machine only add to it.
    """

    value: str
    op: str
    microseconds: float


def kernel_times(artifact: Path, target: Target, feeds: Mapping[str, Array], *, runs: int = 20) -> list[KernelTime]:
    """The kernels that onnxruntime runs for the ONNX file `artifact`, in any order.

    Args:
        feeds: one set of inputs. runs: how often to run; the least is taken kernel by kernel.
    """
    model = onnx.load(artifact)
    for node in model.graph.node:
        node.name = node.output[0]
    values = {node.name for node in model.graph.node}
    times: dict[tuple[str, str], list[float]] = {}
    for event in _events(model, target, feeds, runs):
        name = event["name"].removesuffix(KERNEL)
        times.setdefault((name, event["args"]["op_name"]), []).append(float(event["dur"]))
    return [KernelTime(_value(name, values), op, min(found)) for (name, op), found in times.items()]


def _events(model: onnx.ModelProto, target: Target, feeds: Mapping[str, Array], runs: int) -> list[dict]:  # type: ignore[type-arg]
    ort = import_runtime()
    with TemporaryDirectory() as folder:
        options = session_options(ort, target)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        started = perf_counter()
        for done in range(runs):
            if done >= LEAST and perf_counter() - started > SECONDS:
                break
            session.run(None, dict(feeds))
        events = json.loads(Path(session.end_profiling()).read_text())
    return [e for e in events if e.get("cat") == "Node" and e["name"].endswith(KERNEL)]


def _value(name: str, values: set[str]) -> str:
    if name in values:
        return name
    found = ADDED.match(name)
    plain = found["name"] if found else name
    return plain if plain in values else ""
