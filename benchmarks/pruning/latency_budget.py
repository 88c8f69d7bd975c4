"""Does a budget on latency hold? ResNet-56 is cut to shares of its measured time, then timed anew.

    EDGEPRESS_DATA=... python benchmarks/pruning/latency_budget.py --out benchmarks/pruning/latency_budget.json

onnxruntime, one thread, batch 1, in turns with the original. Channels are chosen by magnitude and nothing is refitted:
accuracy is not the question here. Run it on a quiet machine.
"""

import argparse
import json
from pathlib import Path

import cifar
import torch.nn.functional as F

from edgepress.ir import Program
from edgepress.prune import PruneOptions, prune

SHARES = (0.2, 0.35, 0.5)
ROUNDINGS = (1, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write JSON here")
    given = parser.parse_args()
    original, rows = cifar.program(), []
    for share in SHARES:
        for round_to in ROUNDINGS:
            rows.append(row(original, share, round_to))
            print(json.dumps(rows[-1]), flush=True)
            if given.out:
                given.out.write_text(json.dumps({"environment": cifar.environment(), "results": rows}, indent=1) + "\n")


def row(original: Program, share: float, round_to: int) -> dict[str, object]:
    """Cut to a budget by a stopwatch of 100 rounds; time the result with 400 fresh ones."""
    trials: list[float] = []

    def stopwatch(program: Program) -> float:
        trials.append(1 / cifar.latency({"original": original, "cut": program}, runs=100)["cut"]["ratio"])
        return trials[-1]

    options = PruneOptions({"latency": share}, criterion="l2", round_to=round_to,
                           minimum=round_to, reconstruct=False)  # fmt: skip
    result = prune(original, options, [], F.cross_entropy, stopwatch)
    fresh = 1 / cifar.latency({"original": original, "cut": result.program}, runs=400)["cut"]["ratio"]
    macs = result.facts["macs_after"] / result.facts["macs_before"]
    return {"budget": 1 - share, "round_to": round_to, "measured": fresh, "over_budget": fresh / (1 - share) - 1,
            "macs_share": macs, "trials": len(trials)}  # fmt: skip


if __name__ == "__main__":
    main()
