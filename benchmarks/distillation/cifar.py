"""What each distillation loss brings on CIFAR-10: equal epochs, equal seeds, one table.

    EDGEPRESS_DATA=... OMP_NUM_THREADS=1 python benchmarks/distillation/cifar.py --minutes 10 [--experiment pruned20]

Experiments (teacher -> student):
  pruned20  ResNet-20 -> the same cut to half of its MACs (Taylor, global)
  pruned56  ResNet-56 -> the same cut to half of its MACs
  small     ResNet-56 -> ResNet-20, from random weights
Data: the first images of the lossless CIFAR-10 training set, flipped and shifted; test: its first 1,000 test images
(standard error about 0.8 points). The teachers' weights were trained by others on all 50,000 training images.

Runs are added to the JSON file one by one, arm after arm within a seed: stop and go on as you like.
"""

import os
from pathlib import Path

import torch
from harness import TASK, Experiment, arguments, compare

from edgepress.data import Dataset, open_source
from edgepress.importers import factory
from edgepress.ir import capture
from edgepress.prune import PruneOptions, prune
from edgepress.train import TrainOptions

HERE = Path(__file__).parent
NETWORKS = "../quantization/networks.py"
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def cifar(split: str, limit: int) -> Dataset:
    """The first `limit` images."""
    options = {"path": f"cifar10/{split}.npz", "scale": 1 / 255, "mean": MEAN, "std": STD}
    return open_source("npz", options, Path(os.environ["EDGEPRESS_DATA"])).subset(range(limit))


def make(name: str, images: int, epochs: int) -> Experiment:
    trained = factory.find(f"{NETWORKS}:resnet", HERE)
    train, test = cifar("train", images), cifar("test", 1000)
    shared = {"epochs": epochs, "batch_size": 64, "amp": "bf16", "channels_last": True, "augment": ("flip", "shift")}
    if name == "small":
        torch.manual_seed(0)
        network = factory.find(f"{NETWORKS}:ResNetCifar", HERE)(20)
        student = capture(network, [torch.randn(2, 3, 32, 32)], input_names=["image"])
        return Experiment(name, trained(56), student, train, test, TrainOptions(lr=0.1, **shared))
    teacher = trained(int(name.removeprefix("pruned")))
    batches = [(batch.inputs, batch.targets) for batch in train.subset(range(256)).batches(64)]
    options = PruneOptions(criterion="taylor", reduce={"macs": 0.5}, allocation="global", round_to=4)
    student = prune(teacher, options, batches, TASK.loss).program
    return Experiment(name, teacher, student, train, test, TrainOptions(lr=0.02, **shared))


def main() -> None:
    parser = arguments(__doc__, ["pruned20", "pruned56", "small"])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=4)
    chosen = parser.parse_args()
    experiment = make(chosen.experiment, chosen.images, chosen.epochs)
    out = chosen.out or HERE / f"cifar_{chosen.experiment}.json"
    compare(experiment, chosen.arms, chosen.seeds, chosen.minutes, out)


if __name__ == "__main__":
    main()
