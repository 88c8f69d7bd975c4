"""What each distillation loss brings on Fashion-MNIST: small enough for many seeds on one core.

    EDGEPRESS_DATA=... OMP_NUM_THREADS=1 python benchmarks/distillation/fashion.py --minutes 10 [--experiment pruned]

The teacher (1.9 million MACs) is trained here first, on 10,000 images, or read from `--teacher`. Experiments:
  pruned  the teacher cut to a third of its MACs (Taylor, global), 1,000 labelled images, 5 epochs
  small   a network of a quarter of the width from random weights, 2,000 labelled images, 15 epochs
  few     as pruned, 10 images per class, 50 epochs; arms without "task" use no labels
Test: all 10,000 test images (standard error about 0.3 points).
"""

import os
from pathlib import Path

import torch
from harness import TASK, Experiment, arguments, compare
from networks import fashion_cnn

from edgepress.data import Dataset, open_source, per_class
from edgepress.ir import Program, capture, load, save
from edgepress.prune import PruneOptions, prune
from edgepress.train import TrainOptions, fit

HERE = Path(__file__).parent
TEACHER_IMAGES, FEW_SEED = 10_000, 0


def network(width: int) -> Program:
    """Captured, from random weights."""
    torch.manual_seed(0)
    return capture(fashion_cnn(width), [torch.randn(2, 1, 28, 28)], input_names=["image"])


def fashion(split: str) -> Dataset:
    """`split`: "train" or "t10k"."""
    files = {
        "images": f"fashion_mnist/{split}-images-idx3-ubyte.gz",
        "labels": f"fashion_mnist/{split}-labels-idx1-ubyte.gz",
    }
    return open_source(
        "idx", {**files, "scale": 1 / 255, "mean": 0.286, "std": 0.353}, Path(os.environ["EDGEPRESS_DATA"])
    )


def trained_teacher(everything: Dataset, folder: Path | None) -> Program:
    """Read from `folder`, or trained and kept there."""
    if folder is not None and folder.is_dir():
        return load(folder)
    options = TrainOptions(epochs=4, batch_size=128, optimizer="adamw", lr=5e-3, augment=("flip",))
    large = everything.subset(range(TEACHER_IMAGES))
    teacher = fit(network(16), large, objective=TASK.objective(), options=options, task=TASK).program
    if folder is not None:
        save(teacher, folder)
    return teacher


def make(name: str, folder: Path | None) -> Experiment:
    everything, test = fashion("train"), fashion("t10k")
    teacher = trained_teacher(everything, folder)
    rest = everything.subset(range(TEACHER_IMAGES, TEACHER_IMAGES + 2000))
    shared = {"batch_size": 32, "optimizer": "adamw", "augment": ("flip", "shift")}
    if name == "small":
        return Experiment(name, teacher, network(4), rest, test, TrainOptions(epochs=15, lr=5e-3, **shared))
    batches = [(batch.inputs, batch.targets) for batch in rest.subset(range(256)).batches(64)]
    how = PruneOptions(criterion="taylor", reduce={"macs": 0.67}, allocation="global", round_to=1)
    student = prune(teacher, how, batches, TASK.loss).program
    if name == "few":
        few = per_class(rest, 10, FEW_SEED)
        return Experiment(name, teacher, student, few, test, TrainOptions(epochs=50, lr=1e-3, **shared))
    return Experiment(name, teacher, student, rest.subset(range(1000)), test, TrainOptions(epochs=5, lr=1e-3, **shared))


def main() -> None:
    parser = arguments(__doc__, ["few", "pruned", "small"])
    parser.add_argument("--teacher", type=Path, help="folder of the trained teacher; made if missing")
    chosen = parser.parse_args()
    out = chosen.out or HERE / f"fashion_{chosen.experiment}.json"
    compare(make(chosen.experiment, chosen.teacher), chosen.arms, chosen.seeds, chosen.minutes, out)


if __name__ == "__main__":
    main()
