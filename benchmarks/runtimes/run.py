"""One recipe and one trained network on every runtime of this machine: accuracy, speed, memory, size, parity.

`recipe.yaml` is run three times: as it is (float baseline and int8 result, each target in its own format), with a
float16 export instead of quantization, and unquantized on targets that compute in bfloat16. Accuracy and parity are the
runs' own. Then every file is opened on its runtime and all are timed in turns in one process, so that a column of
latencies may be compared row by row.

    python recipes/families/prepare.py resnet
    EDGEPRESS_DATA=... python benchmarks/runtimes/run.py [--out FOLDER] [--samples 1000] [--runs 300] [--prepare]

Writes results.json (with the environment) and results.md. `--prepare` stops before anything is timed; a second call
finds the finished steps. CUDA targets join where their runtime and a GPU are there.
"""

import argparse
import json
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepress import targets
from edgepress.errors import EdgepressError
from edgepress.measure.environment import describe
from edgepress.measure.latency import compare_latency
from edgepress.measure.memory import measure_cold_start
from edgepress.measure.record import Environment, Evidence, Measurement, Parity
from edgepress.measure.size import measure_size
from edgepress.pipeline.run import execute
from edgepress.recipe import load
from edgepress.targets.companions import companions
from edgepress.targets.readiness import lacks
from edgepress.targets.runtimes import open_session

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent.parent / "build" / "runtimes"
SHOWN = ("accuracy", "latency_ms", "latency_p95_ms", "first_inference_ms", "load_ms", "peak_memory_bytes", "size_bytes")
CUDA = ("cuda", "tensorrt")
EXPORT_HALF = "steps=[{export: {format: onnx, precision: float16}}]"
EXPORT = "steps=[{export: {format: onnx}}]"


@dataclass(frozen=True)
class Row:
    """One file on one target."""

    name: str
    artifact: Path
    target: targets.Target
    accuracy: Measurement


class Lines:
    """Tells how the runs go, a line per step."""

    def step(self, number: int, total: int, name: str) -> None:
        self.name = name

    def result(self, summary: str, *, reused: bool, seconds: float | None) -> None:
        print(f"  {self.name}: {summary}" + (" (from an earlier run)" if reused else ""), flush=True)

    def tell(self, text: str) -> None:
        print(f"  {text}", flush=True)

    def progress(self, text: str) -> None: ...


def main() -> int:
    arguments = parse()
    rows, parity = prepared(arguments.samples)
    if arguments.prepare:
        return 0
    with ExitStack() as stack:
        sessions = {row.name: open_session(row.artifact, row.target) for row in rows}
        for session in sessions.values():
            stack.callback(session.close)
        feeds = {name: noise(session) for name, session in sessions.items()}
        latencies = compare_latency(sessions, feeds, runs=arguments.runs, warmup=30)
    found = {}
    for row in rows:
        print(f"cold starts: {row.name}", flush=True)
        cold = measure_cold_start(row.artifact, row.target, feeds[row.name], repeats=arguments.cold_starts, runs=3)
        size = measure_size(row.artifact, *companions(row.artifact))
        found[row.name] = (row.accuracy, *latencies[row.name], *cold, *size)
    notes = (arguments.note,) if arguments.note else ()
    write(arguments.out, found, parity, describe((*notes, *latencies.warnings)))
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--samples", type=int, default=1000, help="test images for the accuracy")
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--cold-starts", type=int, default=3)
    parser.add_argument("--prepare", action="store_true", help="only make the files, time nothing")
    parser.add_argument("--note", default="", help="how the machine was set up, for the record")
    return parser.parse_args()


def prepared(samples: int) -> tuple[list[Row], list[Parity]]:
    """Every file, beside the target it runs on, with the accuracy and parity that the recipe's run found."""
    names = [*load(HERE / "recipe.yaml").targets, *(name for name in CUDA if not lacks(targets.load(name)))]
    for name in names:
        for lack in lacks(targets.load(name)):
            print(f"{name} is left out: no {lack.what} ({lack.fix})")
    ready = [name for name in names if not lacks(targets.load(name))]
    half = [name for name in ready if name in ("local-cpu", "openvino-cpu", *CUDA)]
    bf16 = [str(HERE / f"targets/{name}.yaml") for name in ("openvino-bf16", "torch-bf16")]
    bf16 = [name for name in bf16 if not lacks(targets.load(name))]
    rows, parity = [], []
    for kind, settings, places, roles in (
        ("int8", (), ready, {"baseline": "float32", "compressed": "int8"}),
        ("float16", (EXPORT_HALF,), half, {"compressed": "float16"}),
        ("bfloat16", (EXPORT,), bf16, {"compressed": "bfloat16 arithmetic"}),
    ):
        evidence = run(kind, places, (*settings, f"data.evaluate.limit={samples}"))
        rows += rows_of(kind, evidence, places, roles)
        parity += [hop for hop in evidence.parity if any(hop.first.startswith(role) for role in roles)]
    return rows, parity


def run(kind: str, places: list[str], settings: tuple[str, ...]) -> Evidence:
    print(f"recipe, {kind}: {', '.join(Path(place).stem for place in places)}", flush=True)
    recipe = load(HERE / "recipe.yaml", [*settings, f"targets={json.dumps(places)}"])
    outcome = execute(recipe, BUILD / kind, dry_run=False, device="cpu", reporter=Lines())
    assert outcome.evidence is not None
    return outcome.evidence


def rows_of(kind: str, evidence: Evidence, places: list[str], roles: dict[str, str]) -> list[Row]:
    rows = []
    for role, label in roles.items():
        subject = evidence.baseline if role == "baseline" else evidence.compressed
        for place in map(targets.load, places):
            file = BUILD / kind / subject.artifacts.get(place.name, subject.artifact)
            accuracy = subject.measurement("accuracy", place.name)
            assert accuracy is not None
            rows.append(Row(f"{place.name} {label}", file, place, accuracy))
    return rows


def noise(session) -> dict[str, np.ndarray]:
    ((name, spec),) = session.input_specs.items()
    return {name: np.random.default_rng(0).normal(size=(1, *spec.shape[1:])).astype(spec.dtype)}


def write(out: Path, found: dict[str, tuple[Measurement, ...]], parity: list[Parity], environment: Environment) -> None:
    out.mkdir(parents=True, exist_ok=True)
    # samples would be megabytes: their summary stays
    plain = {name: [m.model_dump(mode="json", exclude={"samples"}) for m in ms] for name, ms in found.items()}
    hops = [hop.model_dump(mode="json") for hop in parity]
    results = {"rows": plain, "parity": hops, "environment": environment.model_dump(mode="json")}
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (out / "results.md").write_text(markdown(found, parity, environment) + "\n")
    print((out / "results.md").read_text())


def markdown(found: dict[str, tuple[Measurement, ...]], parity: list[Parity], environment: Environment) -> str:
    lines = ["| | " + " | ".join(SHOWN) + " |", "|---|" + "---|" * len(SHOWN)]
    for name, measurements in found.items():
        values = {m.name: m for m in measurements}
        lines.append(f"| {name} | " + " | ".join(cell(values.get(metric)) for metric in SHOWN) + " |")
    lines += ["", "| outputs | n | max error | mean error | predictions that differ | first layer that differs |",
              "|---|---|---|---|---|---|"]  # fmt: skip
    lines += [
        f"| {p.first} / {p.second} | {p.n} | {p.max_abs:.3g} | {p.mean_abs:.3g} | {p.flip_rate or 0:.2%} "
        f"| {p.first_divergent_layer or '-'} |"
        for p in parity
    ]
    tools = ", ".join(f"{tool} {version}" for tool, version in environment.tools.items())
    images = next(iter(found.values()))[0].n
    lines += [
        "",
        f"{environment.cpu}, {environment.cores} cores, 1 thread, batch 1, accuracy on {images:,} images; {tools}.",
    ]
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
    try:
        sys.exit(main())
    except EdgepressError as error:
        sys.exit(str(error))
