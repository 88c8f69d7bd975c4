"""Post-training quantization of a float ONNX file by each contestant; runs in a process of its own.

Every contestant starts from the same network and the same calibration data and ends with a file. What is counted is
quantizing and writing; what is not is importing packages, reading the network, and a first run in float.
"""

import argparse
import ctypes
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from contestants import CASES, Case

from edgepress.exporters.onnx import export_onnx

Work = Callable[[], None]


def resident(field: str) -> int:
    """A line of this process's memory, in bytes: VmRSS is what it holds, VmHWM the most it has held."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def measured(work: Work) -> dict[str, float]:
    """Seconds, and the most memory held meanwhile beyond what was held before."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # memory that is free but not given back would hide what is taken
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts here
    before, start = resident("VmRSS"), time.perf_counter()
    work()
    return {"seconds": time.perf_counter() - start, "extra_peak_bytes": resident("VmHWM") - before}


def with_edgepress(case: Case, observer: str, source: Path, out: Path) -> Work:
    from edgepress.quantize.options import QuantOptions
    from edgepress.quantize.post_training import quantize
    from edgepress.targets.capability import load_capability

    program, batches = case.program(), case.calibration()
    program(*batches[0])

    def work() -> None:
        options = QuantOptions(observer=observer)  # type: ignore[arg-type]
        export_onnx(quantize(program, options, load_capability("onnxruntime-x86"), batches).program, out)

    return work


def feeds(case: Case, source: Path) -> list[dict[str, np.ndarray]]:
    name = onnx.load(source).graph.input[0].name
    return [{name: batch.numpy()} for (batch,) in case.calibration()]


def with_onnxruntime(case: Case, method: str, source: Path, out: Path) -> Work:
    """quantize_static with its recommended preprocessing and settings for VNNI: QDQ, per channel, uint8 x int8."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process
    from onnxruntime.tools import symbolic_shape_infer  # noqa: F401  (half a second that is no quantization)

    kinds = {"minmax": CalibrationMethod.MinMax, "entropy": CalibrationMethod.Entropy,
             "percentile": CalibrationMethod.Percentile}  # fmt: skip

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(given)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.left, None)

    given = feeds(case, source)
    ort.InferenceSession(str(source)).run(None, given[0])

    def work() -> None:
        prepared = out.with_suffix(".prepared.onnx")
        quant_pre_process(str(source), str(prepared))
        quantize_static(str(prepared), str(out), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                        calibrate_method=kinds[method])  # fmt: skip

    return work


def with_nncf(case: Case, preset: str, source: Path, out: Path) -> Work:
    """nncf.quantize with one sample at a time, as its manual asks for; transformers are announced as such."""
    import nncf

    single = [{name: v[i : i + 1] for name, v in f.items()} for f in feeds(case, source) for i in range(len(v_of(f)))]
    model = onnx.load(source)
    ort.InferenceSession(str(source)).run(None, single[0])
    settings: dict[str, Any] = {"model_type": nncf.ModelType.TRANSFORMER} if case.transformer else {}

    def work() -> None:
        found = nncf.quantize(model, nncf.Dataset(single), preset=nncf.QuantizationPreset(preset),
                              subset_size=len(single), **settings)  # fmt: skip
        onnx.save(found, out)

    return work


def v_of(feed: dict[str, np.ndarray]) -> np.ndarray:
    return next(iter(feed.values()))


TOOLS = {"edgepress": with_edgepress, "onnxruntime": with_onnxruntime, "nncf": with_nncf}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("tool", choices=TOOLS)
    parser.add_argument("observer")
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    work = TOOLS[asked.tool](CASES[asked.case], asked.observer, asked.source, asked.out)
    print(json.dumps(measured(work)))


if __name__ == "__main__":
    main()
