"""What calibration cannot go below: the bare float network on its samples, one thread, beside what edgepress takes.

EDGEPRESS_DATA=... python benchmarks/quantization/floor.py

Every way runs in turns, a warm-up first; the least of the rounds counts. Ranges need every value of every layer, so no
calibration that looks at all samples is faster than the fastest forward pass that keeps values apart.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime as ort
import torch
from contestants import CASES

from edgepress.exporters.onnx import export_onnx
from edgepress.ir import Program
from edgepress.measure.environment import describe
from edgepress.quantize.calibrate import observe
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.place import place
from edgepress.quantize.post_training import prepare, quantize
from edgepress.quantize.watch import Watched
from edgepress.targets.capability import load_capability

Way = Callable[[torch.Tensor], object]


def in_onnxruntime(program: Program) -> Way:
    """With onnxruntime's fusions: values between a convolution and its ReLU or sum are never seen."""
    with tempfile.TemporaryDirectory() as folder:
        path = export_onnx(program, Path(folder) / "float.onnx").path
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch.numpy()})


def ways(program: Program, samples: torch.Tensor, sizes: list[int]) -> dict[str, Callable[[], object]]:
    """Name -> one pass over all samples."""
    table, prepared = load_capability("onnxruntime-x86"), prepare(program)
    plan, runtime, plain = place(prepared, table, QuantOptions()), in_onnxruntime(program), Watched(prepared, {})

    def over(way: Way, size: int) -> Callable[[], object]:
        return lambda: [way(chunk) for chunk in samples.split(size)]

    found: dict[str, Callable[[], object]] = {}
    for size in sizes:
        found[f"forward, onnxruntime, batches of {size}"] = over(runtime, size)
        found[f"forward, torch, batches of {size}"] = over(lambda b: plain.outputs((b,)), size)
    batches = [(chunk,) for chunk in samples.split(32)]
    for observer in ("minmax", "percentile"):
        found[f"ranges, {observer}"] = lambda observer=observer: observe(prepared, plan, batches, observer)  # type: ignore[misc]
    for observer in ("minmax", "percentile", "auto"):
        options = QuantOptions(observer=observer)  # type: ignore[arg-type]
        found[f"quantized, {observer}"] = lambda options=options: quantize(program, options, table, batches)  # type: ignore[misc]
    return found


def least_seconds(passes: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """In turns."""
    seen: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(rounds):
        for name, once in passes.items():
            start = time.perf_counter()
            once()
            seen[name].append(time.perf_counter() - start)
    return {name: round(min(own), 3) for name, own in seen.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, default="resnet56")
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("floor.json"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    program, samples = CASES[asked.case].program(), CASES[asked.case].calibrate()
    seconds = least_seconds(ways(program, samples, asked.sizes), asked.rounds)
    record = {"case": asked.case, "samples": len(samples), "rounds": asked.rounds, "seconds": seconds}
    asked.out.write_text(json.dumps({**record, "environment": describe().model_dump()}, indent=1) + "\n")
    for name, value in seconds.items():
        print(f"{value:7.3f} s  {name}")


if __name__ == "__main__":
    main()
