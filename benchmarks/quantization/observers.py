"""How ranges are found, at 8 bits: points lost and how far the outputs move, per network and observer.

EDGEPRESS_DATA=... python benchmarks/quantization/observers.py --cases resnet8 resnet20 mobilenet vit
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from contestants import CASES, SAMPLES, Case, cifar_case
from networks import raw_cifar, resnet8
from rescaled import scores_of

from edgepress.quantize.diagnose import sqnr
from edgepress.quantize.observers import OBSERVERS
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.targets.capability import load_capability

NETWORKS = {"resnet8": cifar_case(resnet8, raw_cifar), **CASES}


def rows(name: str, case: Case, observers: list[str]) -> list[dict[str, Any]]:
    program, (inputs, labels) = case.program(), case.test()
    goal = scores_of(program, inputs)
    right = goal.argmax(1) == labels
    found = [{"network": name, "observer": None, "accuracy": round(100 * float(right.float().mean()), 2)}]
    for observer in observers:
        options = QuantOptions(observer=observer)  # type: ignore[arg-type]
        quantized = quantize(program, options, load_capability("onnxruntime-x86"), case.calibration()).program
        scores = scores_of(quantized, inputs)
        kept = scores.argmax(1) == labels
        found.append({
            "network": name,
            "observer": observer,
            "accuracy": round(100 * float(kept.float().mean()), 2),
            "points_lost": round(100 * float(right.float().mean() - kept.float().mean()), 2),
            "answers_changed": round(100 * float((scores.argmax(1) != goal.argmax(1)).float().mean()), 2),
            "output_db": round(sqnr(goal, scores), 2),
        })  # fmt: skip
        print(found[-1], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--observers", nargs="+", choices=OBSERVERS, default=["minmax", "percentile"])
    parser.add_argument("--out", type=Path, default=Path("observers.json"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    kept = json.loads(asked.out.read_text())["rows"] if asked.out.exists() else []
    for name in asked.cases:
        kept = [row for row in kept if row["network"] != name] + rows(name, NETWORKS[name], asked.observers)
        asked.out.write_text(json.dumps({"samples": SAMPLES, "rows": kept}, indent=1) + "\n")


if __name__ == "__main__":
    main()
