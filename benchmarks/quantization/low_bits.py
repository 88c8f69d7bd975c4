"""Weights of 8 to 2 bits with 8-bit activations, without training: rounding to nearest beside rounding by layer output.

EDGEPRESS_DATA=... python benchmarks/quantization/low_bits.py --networks resnet20 --bits 4 3 2
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mixed import divergence
from networks import accuracy, batches, cifar, raw_cifar, resnet, resnet8

from edgepress.ir import Program
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.targets.capability import load_capability

Data = Callable[[str, int], tuple[torch.Tensor, torch.Tensor]]
NETWORKS: dict[str, tuple[Callable[[], Program], Data]] = {
    "resnet20": (lambda: resnet(20), cifar),
    "resnet56": (lambda: resnet(56), cifar),
    "resnet8": (resnet8, raw_cifar),
}


def measure(program: Program, data: Data, samples: int, **settings: Any) -> dict[str, Any]:
    images, labels = data("test", 1000)
    options = QuantOptions(observer="mse", rounding_samples=samples, **settings)
    start = time.perf_counter()
    result = quantize(program, options, load_capability("onnxruntime-x86"), batches(data("train", samples)[0]))
    seconds = time.perf_counter() - start
    found = accuracy(result.program, images, labels)
    apart = divergence(program, result.program, images)
    return {**settings, "accuracy": found, "divergence": apart, "seconds": seconds, "samples": samples}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 4, 3, 2])
    parser.add_argument("--roundings", nargs="+", choices=("nearest", "output"), default=["nearest", "output"])
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--steps", type=int, default=0, help="of reconstruction, after rounding by output")
    parser.add_argument("--edge-bits", type=int, help="of the first and the last layer")
    parser.add_argument("--out", type=Path, default=Path("low_bits.json"))
    arguments = parser.parse_args()
    rows = []
    for name in arguments.networks:
        make, data = NETWORKS[name]
        program = make()
        rows.append({"network": name, "accuracy": accuracy(program, *data("test", 1000)), "weight_bits": 32})
        print(rows[-1], flush=True)
        for bits in arguments.bits:
            for rounding in arguments.roundings:
                settings = {"weight_bits": bits, "rounding": rounding, "edge_bits": arguments.edge_bits,
                            "reconstruct_steps": arguments.steps if rounding == "output" else 0}  # fmt: skip
                rows.append({"network": name, **measure(program, data, arguments.samples, **settings)})
                print(rows[-1], flush=True)
                arguments.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
