"""Real ONNX files through edgepress and its peers: how many become valid int8 models, how far off, fast and large.

    EDGEPRESS_DATA=... python benchmarks/quantization/onnx_files.py --work /tmp/files [--tools edgepress] [--files ...]

Every tool quantizes every file in a process of its own with the same eight sets of inputs (`onnx_inputs`). Afterwards
all results run in turns with the file itself in onnxruntime, one thread, batch 1. The error is the norm of the
difference over the norm of the float output on four other sets of inputs, of the worst output (outputs below 0.01
in the mean square count as 0.01). edgepress is used as a run does it: import, quantize under the guard, export.
Results that are there already are kept: `--work` may be used again. NNCF is found through PYTHONPATH.
"""

import argparse
import json
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import onnxruntime as ort
from networks import DATA
from onnx_inputs import Feed, feeds

CALIBRATION, EVALUATION = 8, 4
TOOLS = ("edgepress", "onnxruntime per channel", "onnxruntime per tensor", "nncf")
SLOWER = 1.02  # of the float time: what counts as slower
Row = dict[str, object]


# -- quantizing ----------------------------------------------------------------------------------------------------


def with_edgepress(source: Path, out: Path, calibration: list[Feed]) -> Row:
    import torch

    from edgepress.exporters.onnx import export_onnx
    from edgepress.importers.onnx import load
    from edgepress.passes.mark_dynamic import mark_dynamic
    from edgepress.pipeline.guard import Guard
    from edgepress.quantize.options import QuantOptions
    from edgepress.quantize.post_training import quantize
    from edgepress.targets import load as load_target
    from edgepress.targets.capability import load_capability

    torch.set_num_threads(1)
    program = load(source)
    batches = [tuple(torch.from_numpy(np.asarray(feed[n])) for n in program.input_names) for feed in calibration]
    capability = load_capability("onnxruntime-local")
    guard = Guard(
        program,
        lambda slow: quantize(program, QuantOptions(slow=slow), capability, batches[:2]),  # times do not ask for ranges
        batches[0],
        load_target("local-cpu"),
        source=source if runs(source, calibration[0]) else None,
    )
    choice = guard.choose()
    facts: Row = {**choice.facts, "integers": len(choice.result.plan.quantized) if choice.result else 0}
    final = choice.program
    if choice.result is not None:
        quantized = quantize(program, QuantOptions(slow=choice.slow), capability, batches).program
        final = mark_dynamic(quantized, choice.dynamic).program
    if choice.as_it_was:
        shutil.copyfile(source, out)
    else:
        export_onnx(final, out)
    return facts | {"kept": choice.outcome, "reasons": [str(r) for r in choice.refusals][:4]}


def with_onnxruntime(source: Path, out: Path, calibration: list[Feed], *, per_channel: bool) -> Row:
    """quantize_static with its preprocessing and the settings for VNNI: QDQ, uint8 x int8."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = list(calibration)

        def get_next(self) -> Feed | None:
            return self.left.pop(0) if self.left else None

    prepared = out.with_suffix(".prepared.onnx")
    try:
        quant_pre_process(str(source), str(prepared))
    except Exception:  # its recommended first step fails on some files; the second may still work
        shutil.copyfile(source, prepared)
    quantize_static(str(prepared), str(out), Reader(), quant_format=QuantFormat.QDQ, per_channel=per_channel,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)  # fmt: skip
    prepared.unlink()
    return {}


def with_nncf(source: Path, out: Path, calibration: list[Feed]) -> Row:
    import nncf

    onnx.save(nncf.quantize(onnx.load(source), nncf.Dataset(calibration), subset_size=len(calibration)), out)
    return {}


def work(tool: str, source: Path, out: Path) -> Row:
    """Quantize one file with one tool; called in a process of its own."""
    calibration = feeds(source, 0, CALIBRATION)
    start = time.perf_counter()
    if tool == "edgepress":
        row = with_edgepress(source, out, calibration)
    elif tool == "nncf":
        row = with_nncf(source, out, typed(source, calibration))
    else:
        row = with_onnxruntime(source, out, typed(source, calibration), per_channel=tool.endswith("channel"))
    return {"seconds": round(time.perf_counter() - start, 2), **row}


# -- running -------------------------------------------------------------------------------------------------------


def session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def typed(path: Path, given: list[Feed]) -> list[Feed]:
    """The inputs in the types that the file takes."""
    types = {
        v.name: onnx.helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type) for v in onnx.load(path).graph.input
    }
    return [{name: np.asarray(value).astype(types[name]) for name, value in feed.items()} for feed in given]


def runs(path: Path, feed: Feed) -> bool:
    try:
        session(path).run(None, feed)
    except Exception:
        return False
    return True


def error(reference: list[list[np.ndarray]], found: list[list[np.ndarray]], kept: list[int]) -> float:
    """Of the worst output, over all samples."""
    worst = 0.0
    for i in kept:
        a = np.concatenate([sample[i].astype(np.float64).ravel() for sample in reference])
        b = np.concatenate([sample[i].astype(np.float64).ravel() for sample in found])
        worst = max(worst, float(np.linalg.norm(a - b) / max(np.linalg.norm(a), 0.01 * np.sqrt(len(a)), 1e-12)))
    return worst


def comparable(path: Path, feed: Feed) -> list[int]:
    """Positions of the outputs that are float and the same in two runs."""
    one, two = (session(path).run(None, feed) for _ in range(2))
    return [i for i, (a, b) in enumerate(zip(one, two, strict=True)) if a.dtype.kind == "f" and np.array_equal(a, b)]


def take_turns(paths: dict[str, Path], feed: Feed, seconds: float) -> dict[str, float]:
    """Median ms of each file, in turns of two runs of which the second counts."""
    calls = {name: (session(path), typed(path, [feed])[0]) for name, path in paths.items()}
    seen: dict[str, list[float]] = {name: [] for name in calls}
    start, rounds = time.perf_counter(), 0
    while rounds < 7 or (time.perf_counter() - start < seconds and rounds < 400):
        for name, (model, feed) in calls.items():
            model.run(None, feed)  # brings its weights back into the caches
            begin = time.perf_counter()
            model.run(None, feed)
            seen[name].append((time.perf_counter() - begin) * 1e3)
        rounds += 1
    return {name: median(values[2:]) for name, values in seen.items()}


def judge(source: Path, folder: Path, rows: dict[str, Row], seconds: float) -> dict[str, Row]:
    """Errors, bytes and times of all results for one file."""
    reference_file = (
        source if runs(source, typed(source, feeds(source, 100, 1))[0]) else folder / f"{source.stem}.float.onnx"
    )
    if not reference_file.exists():
        from edgepress.exporters.onnx import export_onnx
        from edgepress.importers.onnx import load

        export_onnx(load(source), reference_file)
    samples = feeds(source, 100, EVALUATION)
    kept = comparable(reference_file, typed(reference_file, samples)[0])
    reference = [session(reference_file).run(None, feed) for feed in typed(reference_file, samples)]
    paths = {"float": reference_file}
    for tool in rows:
        path = result_path(folder, source, tool)
        try:
            found = [session(path).run(None, feed) for feed in typed(path, samples)]
        except Exception as problem:
            rows[tool]["valid"] = False
            rows[tool].setdefault("reason", first_line(str(problem).replace(f"{folder}/", "")))
            continue
        rows[tool] |= {"valid": True, "bytes": path.stat().st_size, "error": error(reference, found, kept)}
        paths[tool] = path
    times = take_turns(paths, samples[0], seconds)
    for tool in paths.keys() & rows.keys():
        rows[tool] |= {"ms": times[tool], "ratio": times["float"] / times[tool]}
    return {"float": {"ms": times["float"], "bytes": source.stat().st_size}, **rows}


def first_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""


def result_path(folder: Path, source: Path, tool: str) -> Path:
    return folder / f"{source.stem}.{tool.replace(' ', '-')}.onnx"


def attempt(tool: str, source: Path, folder: Path, *, only_known: bool) -> Row:
    """Quantize, or take what an earlier run left."""
    out = result_path(folder, source, tool)
    record = out.with_suffix(".json")
    if record.exists():
        return dict(json.loads(record.read_text()))
    if only_known:
        return {"reason": "not tried"}
    command = [sys.executable, __file__, "--worker", tool, str(source), str(out)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        row: Row = (
            json.loads(done.stdout.splitlines()[-1]) if not done.returncode else {"reason": first_line(done.stderr)}
        )
    except subprocess.TimeoutExpired:
        row = {"reason": "not done after 300 s"}
    record.write_text(json.dumps(row))
    return row


# -- the table -----------------------------------------------------------------------------------------------------


def markdown(table: dict[str, dict[str, Row]], tools: list[str]) -> str:
    lines = [
        "| tool | valid | at least 1.1x faster | slower | larger | median ratio | median error |",
        "|---|---|---|---|---|---|---|",
    ]
    for tool in tools:
        rows = [(files["float"], files[tool]) for files in table.values()]
        valid = [(f, r) for f, r in rows if r.get("valid")]
        ratios = [float(r["ratio"]) for _, r in valid]
        cells = [len(valid), sum(r >= 1.1 for r in ratios), sum(r < 1 / SLOWER for r in ratios),
                 sum(int(r["bytes"]) > int(f["bytes"]) for f, r in valid)]  # fmt: skip
        spread = f"{median(ratios):.2f} | {median(float(r['error']) for _, r in valid):.3f}" if valid else " | "
        lines.append(f"| {tool} | " + " | ".join(map(str, cells)) + f" | {spread} |")
    lines += ["", "Speed over the float file, bytes over its bytes, relative error:", "",
              "| file | float ms | " + " | ".join(tools) + " |", "|---|---|" + "---|" * len(tools)]  # fmt: skip
    for name, files in table.items():
        cells = [_cell(files["float"], files[tool]) for tool in tools]
        lines.append(f"| {name} | {float(files['float']['ms']):.3g} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(floating: Row, row: Row) -> str:
    if not row.get("valid"):
        return "none"
    note = f", {row['kept']}" if row.get("kept") not in (None, "integers") else ""
    return f"{row['ratio']:.2f}x, {int(row['bytes']) / int(floating['bytes']):.2f}, {row['error']:.3f}{note}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("onnx_files"))
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS))
    parser.add_argument("--files", nargs="+", default=[])
    parser.add_argument("--seconds", type=float, default=2.0, help="of timing for each file")
    parser.add_argument("--quantize-only", action="store_true")
    parser.add_argument("--time-only", action="store_true", help="what an earlier run quantized")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "onnx_files.json")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        tool, source, out = arguments.worker
        print(json.dumps(work(tool, Path(source), Path(out))))
        return
    arguments.work.mkdir(parents=True, exist_ok=True)
    table: dict[str, dict[str, Row]] = {}
    for source in sorted((DATA / "onnx").glob("*.onnx")):
        if arguments.files and source.stem not in arguments.files:
            continue
        rows = {t: attempt(t, source, arguments.work, only_known=arguments.time_only) for t in arguments.tools}
        if not arguments.quantize_only:
            table[source.stem] = judge(source, arguments.work, rows, arguments.seconds)
            rows = table[source.stem]
        print(source.stem, json.dumps(rows), flush=True)
        if table:
            write(table, arguments.tools, arguments.out)


def write(table: dict[str, dict[str, Row]], tools: list[str], out: Path) -> None:
    """The results so far, as JSON and as a table."""
    environment = {"cpu": platform.processor(), "onnxruntime": ort.__version__, "python": platform.python_version()}
    out.write_text(json.dumps({"environment": environment, "files": table}, indent=1) + "\n")
    out.with_suffix(".md").write_text(markdown(table, tools))


if __name__ == "__main__":
    main()
