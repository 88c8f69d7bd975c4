"""A vision transformer on CIFAR-10: does attention lose whole heads or the width of all heads? Nothing is trained.

    python recipes/families/prepare.py vit
    EDGEPRESS_DATA=... python benchmarks/pruning/attention.py --out benchmarks/pruning/attention.json

Everything else may be cut as well (feed-forward units and the residual stream), by the defaults, refitted on 512
lossless training images. Accuracy is of the first 1,000 lossless test images (standard error about 1.4 points).
"""

import argparse
import json
from pathlib import Path

import cifar
import numpy as np
import torch
import torch.nn.functional as F

from edgepress.analysis.costs import total_macs
from edgepress.ir import Program
from edgepress.pipeline.model import import_model
from edgepress.prune import PruneOptions, prune
from edgepress.recipe import load

RECIPE = Path(__file__).parents[2] / "recipes/families/vit.yaml"
SHARES = (0.1, 0.25, 0.4)


def images(split: str, count: int, mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[torch.Tensor, ...]:
    """(count, 3, 32, 32) as the network reads them, and labels."""
    arrays = np.load(cifar.data_folder() / f"cifar10/{split}.npz")
    pixels = torch.from_numpy(arrays["images"][:count]).float() / 255
    scaled = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    return scaled, torch.from_numpy(arrays["labels"][:count]).long()


def accuracy(program: Program, data: tuple[torch.Tensor, ...]) -> float:
    with torch.no_grad():
        right = [(program(x).argmax(1) == y).sum() for x, y in zip(*(part.split(100) for part in data), strict=True)]
    return float(sum(right)) / len(data[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write JSON here")
    given = parser.parse_args()
    recipe = load(RECIPE)
    scaling = recipe.data.preprocess
    train, test = (images(s, n, scaling.mean, scaling.std) for s, n in (("train", 512), ("test", 1000)))
    batches = [((x,), y) for x, y in zip(*(part.split(64) for part in train), strict=True)]
    original = import_model(recipe.model)
    rows = [{"share": 0.0, "accuracy": accuracy(original, test), "macs": total_macs(original)}]
    for share in SHARES:
        for attention in ("heads", "width"):
            options = PruneOptions({"macs": share}, attention=attention)
            result = prune(original, options, batches, F.cross_entropy)
            rows.append({"share": share, "attention": attention, "accuracy": accuracy(result.program, test),
                         "macs": total_macs(result.program),
                         "kept": {n: [len(k), result.plan.sizes[n]] for n, k in result.plan.kept.items()}})  # fmt: skip
            print(json.dumps(rows[-1]), flush=True)
            if given.out:
                given.out.write_text(json.dumps({"environment": cifar.environment(), "results": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
