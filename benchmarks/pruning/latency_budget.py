"""A budget on measured time: is it met, and what accuracy is left? ResNet-56 on CIFAR-10, nothing trained.

    EDGEPRESS_DATA=... python benchmarks/pruning/latency_budget.py --out benchmarks/pruning/latency_budget.json

onnxruntime, one thread, batch 1, in turns with the original; each result is timed anew with 400 rounds. Channels are
scored and refitted on lossless training images; accuracy is of the first 1,000 lossless test images (92.6 % before,
standard error about 0.8 points). Run it on a quiet machine.
"""

import argparse
import json
import time
from pathlib import Path

import cifar
import torch.nn.functional as F

from edgepress.errors import UserError
from edgepress.ir import Program
from edgepress.prune import PruneOptions, prune

SHARES = (0.2, 0.35, 0.5)  # of the time that are to go
STREAMS = {"whole": cifar.RESIDUAL, "cut": ()}
ROUNDINGS = (8, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000, help="calibration images (at most 4,000)")
    parser.add_argument("--stream", choices=STREAMS, action="append", help="the residual stream; both if not given")
    parser.add_argument("--round-to", type=int, action="append", help=f"repeatable, {ROUNDINGS} if not given")
    parser.add_argument("--out", type=Path, help="write JSON here")
    given = parser.parse_args()
    original, rows = cifar.program(), []
    for share in SHARES:
        for stream in given.stream or STREAMS:
            for round_to in given.round_to or ROUNDINGS:
                rows.append(row(original, share, stream, round_to, given.images))
                print(json.dumps(rows[-1]), flush=True)
                if given.out:
                    document = {"environment": cifar.environment(), "results": rows}
                    given.out.write_text(json.dumps(document, indent=1) + "\n")


def row(original: Program, share: float, stream: str, round_to: int, images: int) -> dict[str, object]:
    """Cut to a budget by a stopwatch of 100 rounds; time the result with 400 fresh ones. Out of reach says how far."""
    trials: list[float] = []

    def stopwatch(program: Program) -> float:
        trials.append(1 / cifar.latency({"original": original, "cut": program}, runs=100)["cut"]["ratio"])
        return trials[-1]

    asked = {"budget": 1 - share, "stream": stream, "round_to": round_to, "images": images}
    start = time.perf_counter()
    options = PruneOptions({"latency": share}, ignore=STREAMS[stream], round_to=round_to, minimum=round_to)
    try:
        result = prune(original, options, cifar.batches(images), F.cross_entropy, stopwatch)
    except UserError as error:
        return asked | {"refused": error.found, "trials": len(trials)}
    seconds = time.perf_counter() - start
    fresh = 1 / cifar.latency({"original": original, "cut": result.program}, runs=400)["cut"]["ratio"]
    return asked | {"measured": fresh, "over_budget": fresh / (1 - share) - 1,
                    "accuracy": cifar.accuracy(result.program.module()),
                    "macs_share": result.facts["macs_after"] / result.facts["macs_before"],
                    "trials": len(trials), "seconds": seconds}  # fmt: skip


if __name__ == "__main__":
    main()
