"""What each distillation loss brings on CIFAR-10: equal epochs, equal seeds, one table.

    EDGEPRESS_DATA=... OMP_NUM_THREADS=1 python benchmarks/distillation/cifar.py --minutes 10 [--experiment pruned20]

Experiments (teacher -> student):
  blocks    ResNet-56 -> ResNet-20, each stage of which starts as the first, middle and last block of the teacher's
  pruned20  ResNet-20 -> the same cut to half of its MACs (Taylor, global)
  pruned56  ResNet-56 -> the same cut to half of its MACs
  small     ResNet-56 -> ResNet-20, from random weights (needs far more epochs than the others)
Data: the first images of the lossless CIFAR-10 training set, flipped and shifted. Test: the first 1,000 test images
(standard error about 0.8 points). Validation, which chooses among the arms: 1,000 other test images, from the
JPEG-coded set, because the teachers were trained by others on all 50,000 training images. An image counts as another
one if it is not the nearest to any of the 1,000.

Runs are added to the JSON file one by one, arm after arm within a seed: stop and go on as you like.
"""

import io
import itertools
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from harness import TASK, Experiment, arguments, compare
from PIL import Image

from edgepress.data import Dataset, open_source
from edgepress.importers import factory
from edgepress.ir import Program, capture
from edgepress.prune import PruneOptions, prune
from edgepress.train import TrainOptions

HERE = Path(__file__).parent
NETWORKS = "../quantization/networks.py"
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
EPOCHS = {"blocks": 4, "pruned20": 3, "pruned56": 3, "small": 60}
RATES = {"blocks": 0.03, "pruned20": 0.01, "pruned56": 0.01, "small": 0.1}
TEST, CHOOSERS = range(1000), 1000
KEPT_BLOCKS = (0, 4, 8)  # of the nine in a stage of ResNet-56


def cifar(split: str, rows: range) -> Dataset:
    """The images of these rows."""
    options = {"path": f"cifar10/{split}.npz", "scale": 1 / 255, "mean": MEAN, "std": STD}
    return open_source("npz", options, Path(os.environ["EDGEPRESS_DATA"])).subset(rows)


def validation(test: Dataset) -> Dataset:
    """JPEG-coded test images that are not among those of `test`, drawn by seed."""
    folder = Path(os.environ["EDGEPRESS_DATA"])
    packed = np.load(folder / "cifar10_jpg/test_packed.npz")
    header, body, offsets = packed["header"].tobytes(), packed["body"].tobytes(), packed["offsets"]
    coded = [header + body[start:end] for start, end in itertools.pairwise(offsets)]
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(io.BytesIO(c)).convert("RGB"))) for c in coded])
    images = (pixels.permute(0, 3, 1, 2) / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    taken = torch.cdist(test.inputs[0].flatten(1), images.flatten(1)).argmin(1)
    free = torch.ones(len(images), dtype=torch.bool).index_fill(0, taken, False)
    others = Dataset((images[free],), torch.from_numpy(packed["labels"].astype(np.int64))[free], source="cifar10_jpg")
    return others.take(CHOOSERS, seed=0)


def student_of(name: str, teacher: Program, train: Dataset) -> Program:
    """The network to train, see above."""
    if name.startswith("pruned"):
        batches = [(batch.inputs, batch.targets) for batch in train.subset(range(256)).batches(64)]
        options = PruneOptions(criterion="taylor", reduce={"macs": 0.5}, allocation="global", round_to=4)
        return prune(teacher, options, batches, TASK.loss).program
    torch.manual_seed(0)
    network = factory.find(f"{NETWORKS}:ResNetCifar", HERE)(20)
    if name == "blocks":
        network.load_state_dict(some_blocks(teacher.state()))
    return capture(network, [torch.randn(2, 3, 32, 32)], input_names=["image"])


def some_blocks(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of ResNet-20 from those of ResNet-56: DistilBERT's initialisation (Sanh et al. 2019, section 3)."""
    chosen = {k: v.detach() for k, v in state.items() if not k.startswith("layer")}
    for name, tensor in state.items():
        stage, _, rest = name.partition(".")
        block, _, rest = rest.partition(".")
        if stage.startswith("layer") and int(block) in KEPT_BLOCKS:
            chosen[f"{stage}.{KEPT_BLOCKS.index(int(block))}.{rest}"] = tensor.detach()
    return chosen


def make(name: str, images: int, epochs: int) -> Experiment:
    teacher = factory.find(f"{NETWORKS}:resnet", HERE)(20 if name == "pruned20" else 56)
    train, test = cifar("train", range(images)), cifar("test", TEST)
    options = TrainOptions(
        epochs=epochs, lr=RATES[name], batch_size=64, amp="bf16", channels_last=True, augment=("flip", "shift")
    )
    return Experiment(name, teacher, student_of(name, teacher, train), train, test, options, validation(test))


def main() -> None:
    parser = arguments(__doc__, sorted(EPOCHS))
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--epochs", type=int, help="those of the experiment, unless given")
    chosen = parser.parse_args()
    experiment = make(chosen.experiment, chosen.images, chosen.epochs or EPOCHS[chosen.experiment])
    out = chosen.out or HERE / f"cifar_{chosen.experiment}.json"
    compare(experiment, chosen.arms, chosen.seeds, chosen.minutes, out)


if __name__ == "__main__":
    main()
