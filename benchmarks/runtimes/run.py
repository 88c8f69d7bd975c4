"""One trained network on every runtime of this machine: accuracy, latency, memory, cold start, size.

ResNet-20 (He et al., CIFAR-10), float and int8 as edgepress quantizes it. All sessions are timed in turns in one
process, so that a column of latencies may be compared row by row.

    EDGEPRESS_DATA=... python benchmarks/runtimes/run.py [--out FOLDER] [--samples 1000] [--runs 300] [--fast]

Writes results.json (with the environment) and results.md. `--fast` leaves out the runtimes that compile C++.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "quantization"))
from networks import batches, cifar, resnet

from edgepress import ir, targets
from edgepress.errors import MissingTool
from edgepress.exporters.onnx import export_onnx
from edgepress.exporters.openvino import export_openvino
from edgepress.ir import Program
from edgepress.measure.environment import describe
from edgepress.measure.latency import compare_latency
from edgepress.measure.memory import measure_cold_start
from edgepress.measure.outcomes import compare_outcomes
from edgepress.measure.parity import compare_outputs
from edgepress.measure.record import Measurement
from edgepress.measure.size import measure_size
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.targets.capability import load_capability
from edgepress.targets.companions import companions
from edgepress.targets.runtimes import Session, open_session
from edgepress.targets.runtimes.torch_session import compile_ahead

HERE = Path(__file__).resolve().parent
CALIBRATION = 256
BATCH = 50
SHOWN = ("accuracy", "latency_ms", "latency_p95_ms", "first_inference_ms", "load_ms", "peak_memory_bytes", "size_bytes")


@dataclass(frozen=True)
class Row:
    """One artifact on one target."""

    name: str
    artifact: Path
    target: targets.Target


def main() -> int:
    arguments = parse()
    images, labels = cifar("test", arguments.samples)
    data = images.numpy(), labels.numpy()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        rows = list(prepared(Path(folder), arguments.fast))
        sessions = {row.name: open_session(row.artifact, row.target) for row in rows}
        for session in sessions.values():
            stack.callback(session.close)
        scores = {name: run_all(session, data[0]) for name, session in sessions.items()}
        feeds = {name: {session.input_names[0]: data[0][:1]} for name, session in sessions.items()}
        latencies = compare_latency(sessions, feeds, runs=arguments.runs, warmup=30)
        found = {row.name: measured(row, scores, latencies[row.name], data[1], feeds[row.name]) for row in rows}
    notes = (arguments.note,) if arguments.note else ()
    write(arguments.out, found, parities(scores), (*notes, *latencies.warnings))
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--note", default="", help="how the machine was set up, for the record")
    return parser.parse_args()


def prepared(folder: Path, fast: bool) -> Iterator[Row]:
    """Every artifact written, beside the target it runs on; what is not installed is left out with a word."""
    program = resnet(20)
    for name, make in makers(folder, program, fast).items():
        try:
            artifact, target = make()
        except MissingTool as missing:
            print(f"left out {name}: {missing.what}")
        else:
            print(f"ready: {name}")
            yield Row(name, artifact, targets.load(target))


def makers(folder: Path, program: Program, fast: bool):
    def onnx(kind: str, target: str):
        path = folder / f"{kind}-{target}.onnx"
        export_onnx(program if kind == "float" else int8(program, targets.load(target).capability), path)
        return path

    def saved():
        ir.save(program, folder / "program")
        return folder / "program"

    fast_ones = {
        "onnxruntime float": lambda: (onnx("float", "local-cpu"), "local-cpu"),
        "onnxruntime int8": lambda: (onnx("int8", "local-cpu"), "local-cpu"),
        "openvino float": lambda: (openvino(onnx("float", "openvino-cpu")), "openvino-cpu"),
        "openvino int8": lambda: (openvino(onnx("int8", "openvino-cpu")), "openvino-cpu"),
        "torch eager float": lambda: (saved(), "torch-eager"),
    }
    compiled = {
        "torch.compile float": lambda: (saved(), "torch-compile"),
        "AOTInductor float": lambda: (compile_ahead(program, folder / "ahead.pt2"), "torch-aot"),
    }
    return fast_ones if fast or shutil.which("g++") is None else {**fast_ones, **compiled}


def int8(program: Program, capability: str) -> Program:
    calibration, _ = cifar("train", CALIBRATION)
    return quantize(program, QuantOptions(), load_capability(capability), batches(calibration)).program


def openvino(source: Path) -> Path:
    return export_openvino(source, source.with_suffix(".xml")).path


def run_all(session: Session, images: np.ndarray) -> np.ndarray:
    (name,) = session.input_names
    chunks = (images[i : i + BATCH] for i in range(0, len(images), BATCH))
    return np.concatenate([session.run({name: chunk})[0] for chunk in chunks])


def measured(
    row: Row, scores: dict[str, np.ndarray], latency: tuple[Measurement, ...], labels: np.ndarray, feed: dict
) -> tuple[Measurement, ...]:
    print(f"cold starts: {row.name}")
    reference = next(iter(scores.values()))
    accuracy = compare_outcomes(reference, scores[row.name], labels, target=row.target.name).second
    cold = measure_cold_start(row.artifact, row.target, feed, repeats=3, runs=3)
    return (*accuracy, *latency, *cold, *measure_size(row.artifact, *companions(row.artifact)))


def parities(scores: dict[str, np.ndarray]) -> list[dict]:
    """Each runtime against the first of its kind: float with float, int8 with int8."""
    pairs = []
    for kind in ("float", "int8"):
        names = [name for name in scores if name.endswith(kind)]
        pairs += [compare_outputs(names[0], name, [scores[names[0]]], [scores[name]]) for name in names[1:]]
    return [pair.model_dump(mode="json") for pair in pairs]


def write(out: Path, found: dict[str, tuple[Measurement, ...]], parity: list[dict], warnings: tuple[str, ...]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    environment = describe(warnings)
    # samples would be megabytes: their summary stays
    plain = {name: [m.model_dump(mode="json", exclude={"samples"}) for m in ms] for name, ms in found.items()}
    results = {"rows": plain, "parity": parity, "environment": environment.model_dump(mode="json")}
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (out / "results.md").write_text(markdown(found, parity, environment) + "\n")
    print((out / "results.md").read_text())


def markdown(found, parity, environment) -> str:
    lines = ["| | " + " | ".join(SHOWN) + " |", "|---|" + "---|" * len(SHOWN)]
    for name, measurements in found.items():
        values = {m.name: m for m in measurements}
        lines.append(f"| {name} | " + " | ".join(cell(values.get(metric)) for metric in SHOWN) + " |")
    lines += ["", "| outputs | max error | mean error | predictions that differ |", "|---|---|---|---|"]
    lines += [
        f"| {p['first']} / {p['second']} | {p['max_abs']:.3g} | {p['mean_abs']:.3g} | {p['flip_rate']:.2%} |"
        for p in parity
    ]
    lines += ["", "int8: quantized for each runtime's own capability table, hence not the same network twice."]
    tools = ", ".join(f"{tool} {version}" for tool, version in environment.tools.items())
    lines += ["", f"{environment.cpu}, {environment.cores} cores, 1 thread, batch 1; {tools}."]
    lines += [f"Note: {warning}." for warning in environment.warnings]
    return "\n".join(lines)


def cell(measurement: Measurement | None) -> str:
    if measurement is None or measurement.value is None:
        return "-"
    if measurement.unit == "bytes":
        return f"{measurement.value / 1e6:.2f} MB" if measurement.value > 1e6 else f"{measurement.value / 1e3:.1f} kB"
    if measurement.unit == "ratio":
        return f"{measurement.value:.1%}"
    interval = f" [{measurement.low:.3g}, {measurement.high:.3g}]" if measurement.low is not None else ""
    return f"{measurement.value:.3g}{interval}"


if __name__ == "__main__":
    sys.exit(main())
