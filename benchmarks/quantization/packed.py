"""Bytes of ONNX files with narrow weights, in bytes (opset 17) and packed (21, 25), and whether both compute alike.

EDGEPRESS_DATA=... python benchmarks/quantization/packed.py --networks resnet20 resnet56
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
from networks import batches, cifar, resnet

from edgepress.exporters.onnx import export_onnx
from edgepress.ir import Program
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.targets.capability import load_capability

PACKED = {8: 17, 4: 21, 3: 21, 2: 25}


def scores(path: Path, images: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": images})[0]


def row(program: Program, bits: int, folder: Path) -> dict[str, Any]:
    options = QuantOptions(weight_bits=bits, rounding="nearest")
    quantized = quantize(program, options, load_capability("onnxruntime-x86"), batches(cifar("train", 64)[0])).program
    wide = export_onnx(quantized, folder / "wide.onnx", opset=17).path
    packed = export_onnx(quantized, folder / "packed.onnx", opset=PACKED[bits]).path
    images = cifar("test", 64)[0].numpy()
    return {
        "weight_bits": bits,
        "opset": PACKED[bits],
        "bytes_in_bytes": wide.stat().st_size,
        "bytes_packed": packed.stat().st_size,
        "equal_bits_in_onnxruntime": bool(np.array_equal(scores(wide, images), scores(packed, images))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, nargs="+", default=[20, 56], help="depths of CIFAR ResNets")
    parser.add_argument("--out", type=Path, default=Path("packed.json"))
    arguments, rows = parser.parse_args(), list[dict[str, Any]]()
    for depth in arguments.networks:
        program = resnet(depth)
        with TemporaryDirectory() as folder:
            whole = export_onnx(program, Path(folder) / "float.onnx").path.stat().st_size
            for bits in PACKED:
                rows.append({"network": f"resnet{depth}", "float_bytes": whole, **row(program, bits, Path(folder))})
                print(rows[-1], flush=True)
    arguments.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
