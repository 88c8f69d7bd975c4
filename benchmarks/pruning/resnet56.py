"""ResNet-56 on CIFAR-10 before any fine-tuning: accuracy and measured time at 2.1x, 2.6x and 4x fewer MACs.

    EDGEPRESS_DATA=... python benchmarks/pruning/resnet56.py --out benchmarks/pruning/resnet56.json
    EDGEPRESS_DATA=... python benchmarks/pruning/resnet56.py --peer            # needs: pip install torch-pruning
    EDGEPRESS_DATA=... python benchmarks/pruning/resnet56.py --time build/pruned  # latency of what --keep left there

Accuracy is of the first 1,000 lossless test images (standard error about 0.8 points); calibration images are lossless
training images. No gradient step is taken by either tool. Torch-Pruning runs its four importances, with all layers free
and with the residual stream left whole as edgepress leaves it here.
"""

import argparse
import json
import time
from pathlib import Path

import cifar
import torch
import torch.nn.functional as F

import edgepress.ir
from edgepress.ir import capture
from edgepress.prune import PruneOptions, prune


def edgepress_result(ratio: float, given: argparse.Namespace) -> dict[str, object]:
    """Prune, and refit unless only the shapes matter."""
    start = time.perf_counter()
    options = PruneOptions(
        reduce={"macs": 1 - 1 / ratio},
        criterion="activation_taylor" if given.shapes_only else "surgeon",
        ignore=cifar.RESIDUAL,
        allocation=given.allocation,
        round_to=given.round_to,
        reconstruct=not given.shapes_only,
    )
    result = prune(cifar.program(), options, cifar.batches(given.images), F.cross_entropy)
    seconds = time.perf_counter() - start
    if given.keep is not None:
        edgepress.ir.save(result.program, given.keep / f"edgepress-{ratio}-round{given.round_to}")
    row = {"tool": "edgepress", "images": given.images, "round_to": given.round_to, "ratio": ratio, "seconds": seconds}
    if not given.shapes_only:
        row["accuracy"] = cifar.accuracy(result.program.module())
    return row | result.facts


def peer_results(criterion: str, stream: str, keep: Path | None) -> list[dict[str, object]]:
    """All ratios from one run of Torch-Pruning; `stream` is "cut", or "whole" to keep the residual stream."""
    import peer

    model = cifar.network()
    makers = [layer for name, layer in model.named_modules() if name == "conv1" or name.endswith(".conv2")]
    ignored = [model.linear, *(makers if stream == "whole" else ())]
    found, start, data = [], time.perf_counter(), cifar.images("train", 256)
    for ratio, pruned, macs, params in peer.prune_to(model, criterion, cifar.RATIOS, data, ignored):
        found.append({"tool": peer.version(), "criterion": criterion, "stream": stream, "ratio": ratio,
                      "accuracy": cifar.accuracy(pruned), "seconds": time.perf_counter() - start,
                      "macs_after": macs, "params_after": params})  # fmt: skip
        if keep is not None:
            edgepress.ir.save(capture(pruned.eval(), [torch.randn(2, 3, 32, 32)]), keep / f"torch-pruning-{ratio}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=4000, help="calibration images (at most 4,000)")
    parser.add_argument("--ratio", type=float, action="append", help="MACs before over MACs after; repeatable")
    parser.add_argument("--allocation", default="global", choices=("global", "uniform", "sensitivity"))
    parser.add_argument("--round-to", type=int, default=1, help="kept channels become multiples of this")
    parser.add_argument("--shapes-only", action="store_true", help="the same shapes by Taylor alone, nothing refitted")
    parser.add_argument("--peer", action="store_true", help="run Torch-Pruning instead")
    parser.add_argument("--criterion", action="append", help="of Torch-Pruning; repeatable, all four if not given")
    parser.add_argument(
        "--stream", action="append", choices=("cut", "whole"), help="of Torch-Pruning; both if not given"
    )
    parser.add_argument("--keep", type=Path, help="save the pruned programs in this folder")
    parser.add_argument("--time", type=Path, help="measure the latency of the programs kept in this folder")
    parser.add_argument("--out", type=Path, help="add the results to this JSON file")
    given = parser.parse_args()
    for row in rows(given):
        print(json.dumps(row), flush=True)
        if given.out:
            add(given.out, row)


def rows(given: argparse.Namespace):
    """The results asked for, one by one."""
    if given.time:
        saved = {path.name: edgepress.ir.load(path) for path in sorted(given.time.iterdir())}
        for name, figures in cifar.latency({"original": cifar.program(), **saved}).items():
            yield {"tool": "latency", "network": name, **figures}
    elif given.peer:
        import peer

        for criterion in given.criterion or peer.CRITERIA:
            for stream in given.stream or ("cut", "whole"):
                yield from peer_results(criterion, stream, given.keep)
    else:
        for ratio in given.ratio or cifar.RATIOS:
            yield edgepress_result(ratio, given)


def add(path: Path, row: dict[str, object]) -> None:
    """Put a row into a JSON file, beside those there."""
    document = json.loads(path.read_text()) if path.exists() else {"results": []}
    document["environment"] = cifar.environment()
    document["results"].append(row)
    path.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
