"""Post-training quantization to 8 bits, edgepress beside its peers: seconds, memory, accuracy with a paired test, bytes
and latency. Each contestant runs in a process of its own (peers.py); latencies are taken in turns afterwards.

    python recipes/families/prepare.py encoder
    EDGEPRESS_DATA=... python benchmarks/quantization/against_peers.py --observers --out against_peers.json

NNCF takes part where PYTHONPATH finds it. Intel Neural Compressor 3.10 no longer reads ONNX files.
"""

import argparse
import importlib.util
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from contestants import CASES, SAMPLES, Case

from edgepress.exporters.onnx import export_onnx
from edgepress.measure.stats.gains import gain_of_answers

Row = dict[str, Any]
TOOLS = ("edgepress minmax", "onnxruntime minmax", "nncf performance")
OBSERVERS = ("edgepress mse", "edgepress entropy", "edgepress percentile", "edgepress auto", "onnxruntime entropy",
             "onnxruntime percentile")  # fmt: skip


def session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def right(case: Case, path: Path) -> np.ndarray:
    """1 or 0 per test sample."""
    (inputs, labels), model = case.test(), session(path)
    name, size = model.get_inputs()[0].name, 100 if case.batch > 1 else 1
    scores = [model.run(None, {name: chunk.numpy()})[0] for chunk in inputs.split(size)]
    return (np.concatenate(scores).argmax(1) == labels.numpy()).astype(int)


def latencies(case: Case, paths: dict[str, Path], rounds: int = 60) -> dict[str, float]:
    """Median ms of one sample, in turns of 20 runs."""
    sessions = {tool: session(path) for tool, path in paths.items()}
    sample = case.test()[0][:1].numpy()
    seen: dict[str, list[float]] = {tool: [] for tool in paths}
    for _ in range(rounds):
        for tool, model in sessions.items():
            feed = {model.get_inputs()[0].name: sample}
            start = time.perf_counter()
            for _ in range(20):
                model.run(None, feed)
            seen[tool].append((time.perf_counter() - start) / 20 * 1e3)
    return {tool: statistics.median(values) for tool, values in seen.items()}


def quantized(name: str, tool: str, source: Path, out: Path, repeats: int) -> Row:
    """One contestant's file and what it cost: the median of `repeats` processes."""
    runs = []
    command = [sys.executable, Path(__file__).with_name("peers.py"), name, *tool.split(), source, out]
    for _ in range(repeats):
        done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
        if done.returncode:
            return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1][:200]}
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    return {key: round(statistics.median(run[key] for run in runs), 3) for key in runs[0]}


def compare(name: str, tools: Sequence[str], folder: Path, repeats: int) -> Row:
    case, rows = CASES[name], dict[str, Row]()
    paths = {"float": export_onnx(case.program(), folder / f"{name}.onnx").path}
    for tool in tools:
        out = folder / f"{name}-{tool.replace(' ', '-')}.onnx"
        rows[tool] = quantized(name, tool, paths["float"], out, repeats)
        if "failed" not in rows[tool]:
            paths[tool] = out
    times = latencies(case, paths)
    answers = {tool: right(case, path) for tool, path in paths.items()}
    for tool, path in paths.items():
        rows.setdefault(tool, {}).update(
            accuracy=round(100 * float(answers[tool].mean()), 2),
            points_lost=round(100 * float((answers["float"] - answers[tool]).mean()), 2),
            p_against_float=round(gain_of_answers(answers[tool], answers["float"]).p_value or 0.0, 4),
            p_against_edgepress=round(gain_of_answers(answers[tool], answers[tools[0]]).p_value or 0.0, 4),
            bytes=path.stat().st_size,
            latency_ms=round(times[tool], 4),
        )
    return {"case": name, "goal": case.goal, "test_samples": len(answers["float"]),
            "calibration_samples": len(case.calibrate()), "repeats": repeats, "tools": rows}  # fmt: skip


def added(rows: dict[str, Row], tools: Sequence[str]) -> dict[str, Row]:
    """Rows of a later run, without the tool the others are tested against; each with the float time of that run."""
    return {tool: rows[tool] | {"float_latency_ms": rows["float"]["latency_ms"]} for tool in tools[1:]}


def table(result: Row) -> str:
    lines = [f"| {result['case']} | seconds | extra MB | accuracy | lost | p | bytes | ms |", "|---" * 8 + "|"]
    for tool, row in result["tools"].items():
        if "failed" in row:
            lines.append(f"| {tool} | failed: {row['failed']} |" + " |" * 6)
            continue
        cost = f"{row['seconds']:.2f} | {row['extra_peak_bytes'] / 1e6:.0f}" if "seconds" in row else " | "
        lines.append(f"| {tool} | {cost} | {row['accuracy']:.2f} | {row['points_lost']:+.2f} | "
                     f"{row['p_against_float']:.2f} | {row['bytes']:,} | {row['latency_ms']:.3f} |")  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--tools", nargs="+", default=TOOLS, help="the first is the one the others are tested against")
    parser.add_argument("--observers", action="store_true", help="also ranges by other rules than the extremes")
    parser.add_argument("--keep", action="store_true", help="rows of other tools stay as they were measured before")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("against_peers.json"))
    asked = parser.parse_args()
    tools = [*asked.tools, *(OBSERVERS if asked.observers else ())]
    if importlib.util.find_spec("nncf") is None:
        tools = [tool for tool in tools if not tool.startswith("nncf")]
    environment = {"cpu": platform.processor(), "machine": platform.machine(), "onnxruntime": ort.__version__,
                   "python": platform.python_version(), "threads": 1, "samples": SAMPLES}  # fmt: skip
    results = json.loads(asked.out.read_text())["results"] if asked.out.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.cases:
            before = next((r for r in results if r["case"] == name), None)
            found = compare(name, tools, Path(folder), asked.repeats)
            print(table(found), flush=True)
            if before is not None and asked.keep:
                found["tools"] = before["tools"] | added(found["tools"], tools)
            results = [*(r for r in results if r["case"] != name), found]
            asked.out.write_text(json.dumps({"environment": environment, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
