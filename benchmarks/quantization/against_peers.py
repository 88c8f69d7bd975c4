"""Post-training quantization of CIFAR ResNets, edgepress beside onnxruntime: seconds, memory, accuracy,
bytes and latency of the result. Each tool runs in a process of its own; latencies are interleaved afterwards.

    EDGEPRESS_DATA=... python benchmarks/quantization/against_peers.py --depths 20 56 --out results.json
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
from networks import batches, cifar, resnet

SAMPLES = 512
TOOLS = (
    "edgepress minmax", "edgepress mse", "edgepress entropy",
    "onnxruntime minmax", "onnxruntime entropy", "onnxruntime percentile",
)  # fmt: skip


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def with_edgepress(depth: int, observer: str, out: Path) -> dict[str, float]:
    """Quantize and export; the import of the network is not counted, as the others start from a file."""
    from edgepress.exporters.onnx import export_onnx
    from edgepress.quantize.options import QuantOptions
    from edgepress.quantize.post_training import quantize
    from edgepress.targets.capability import load_capability

    program, (images, _) = resnet(depth), cifar("train", SAMPLES)
    program(images[:64])
    before, start = peak_bytes(), time.perf_counter()
    options = QuantOptions(observer=observer)  # type: ignore[arg-type]
    result = quantize(program, options, load_capability("onnxruntime-x86"), batches(images))
    export_onnx(result.program, out)
    return {"seconds": time.perf_counter() - start, "extra_peak_bytes": peak_bytes() - before}


def with_onnxruntime(depth: int, method: str, out: Path) -> dict[str, float]:
    """quantize_static with its recommended preprocessing and settings for VNNI: QDQ, per channel, uint8 x int8."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            images, _ = cifar("train", SAMPLES)
            self.batches = batches(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"image": batch[0].numpy()}

    source = float_model(depth, out.parent)
    reader = Reader()
    ort.InferenceSession(str(source)).run(None, {"image": np.zeros((64, 3, 32, 32), np.float32)})
    before, start = peak_bytes(), time.perf_counter()
    prepared = out.with_suffix(".prepared.onnx")
    quant_pre_process(str(source), str(prepared))
    kinds = {"minmax": CalibrationMethod.MinMax, "entropy": CalibrationMethod.Entropy,
             "percentile": CalibrationMethod.Percentile}  # fmt: skip
    quantize_static(str(prepared), str(out), reader, quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                    calibrate_method=kinds[method])  # fmt: skip
    return {"seconds": time.perf_counter() - start, "extra_peak_bytes": peak_bytes() - before}


def float_model(depth: int, folder: Path) -> Path:
    from edgepress.exporters.onnx import export_onnx

    path = folder / f"float{depth}.onnx"
    return path if path.exists() else export_onnx(resnet(depth), path).path


def session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def accuracy(path: Path) -> float:
    images, labels = cifar("test", 1000)
    model = session(path)
    scores = [model.run(None, {"image": batch.numpy()})[0] for (batch,) in batches(images, 100)]
    return float(100 * (np.concatenate(scores).argmax(1) == labels.numpy()).mean())


def latencies(paths: dict[str, Path], rounds: int = 60, repeats: int = 20) -> dict[str, float]:
    """Median over interleaved rounds of the time of one image, in ms."""
    sessions = {name: session(path) for name, path in paths.items()}
    image = cifar("test", 1)[0].numpy()
    seen: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(rounds):
        for name, model in sessions.items():
            start = time.perf_counter()
            for _ in range(repeats):
                model.run(None, {"image": image})
            seen[name].append((time.perf_counter() - start) / repeats * 1e3)
    return {name: float(np.median(values)) for name, values in seen.items()}


def compare(depth: int, folder: Path) -> dict[str, object]:
    paths = {"float": float_model(depth, folder)}
    rows: dict[str, dict[str, float]] = {"float": {}}
    for tool in TOOLS:
        name, observer = tool.split()
        paths[tool] = folder / f"{name}-{observer}-{depth}.onnx"
        command = [sys.executable, __file__, "--worker", name, observer, str(depth), str(paths[tool])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
        if done.returncode:
            raise SystemExit(f"{tool} failed:\n{done.stderr[-2000:]}")
        rows[tool] = json.loads(done.stdout.splitlines()[-1])
    times = latencies(paths)
    for tool, path in paths.items():
        rows[tool] |= {"bytes": path.stat().st_size, "accuracy": accuracy(path), "latency_ms": times[tool]}
        print(f"resnet{depth} {tool}: {rows[tool]}", flush=True)
    return {"network": f"resnet{depth}", "samples": SAMPLES, "tools": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depths", type=int, nargs="+", default=[20, 56])
    parser.add_argument("--out", type=Path, default=Path("against_peers.json"))
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        name, observer, depth, out = arguments.worker
        run = {"edgepress": with_edgepress, "onnxruntime": with_onnxruntime}[name]
        print(json.dumps(run(int(depth), observer, Path(out))))
        return
    with tempfile.TemporaryDirectory() as folder:
        results = [compare(depth, Path(folder)) for depth in arguments.depths]
    environment = {"cpu": platform.processor(), "onnxruntime": ort.__version__, "python": platform.python_version()}
    arguments.out.write_text(json.dumps({"environment": environment, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
