"""What each distillation loss brings on human activity (UCI HAR, nine signals over time): minutes on one core.

    EDGEPRESS_DATA=... OMP_NUM_THREADS=1 python benchmarks/distillation/activity.py --minutes 10

The teacher is trained here on the first 1,500 windows; the student is the teacher cut to a quarter of its parameters,
trained on 600 of them for 4 epochs. Validation, which chooses among the arms: the 900 windows that neither has seen.
Test: the 950 windows of the other subjects.
"""

import os
from pathlib import Path

import torch
from harness import TASK, Experiment, arguments, compare
from networks import signal_cnn

from edgepress.data import Dataset, open_source
from edgepress.ir import capture
from edgepress.prune import PruneOptions, prune
from edgepress.train import TrainOptions, fit

HERE = Path(__file__).parent


def windows(split: str) -> Dataset:
    options = {"path": "uci_har/har_subset.npz", "inputs": f"x_{split}", "targets": f"y_{split}"}
    return open_source("npz", options, Path(os.environ["EDGEPRESS_DATA"]))


def make() -> Experiment:
    everything, test = windows("train"), windows("test")
    shuffled = everything.take(len(everything), seed=0)  # the file is ordered by subject
    seen, unseen = shuffled.subset(range(1500)), shuffled.subset(range(1500, 2400))
    torch.manual_seed(0)
    network = capture(signal_cnn(), [torch.randn(2, 9, 128)], input_names=["signals"])
    how = TrainOptions(epochs=15, batch_size=32, optimizer="adamw", lr=2e-3, augment=("noise", "scale"))
    teacher = fit(network, seen, objective=TASK.objective(), options=how, task=TASK).program
    train = seen.subset(range(600))
    batches = [(batch.inputs, batch.targets) for batch in train.subset(range(256)).batches(64)]
    cut = PruneOptions(criterion="taylor", reduce={"params": 0.75}, round_to=1)
    student = prune(teacher, cut, batches, TASK.loss).program
    options = TrainOptions(epochs=4, batch_size=32, optimizer="adamw", lr=1e-3, augment=("noise", "scale"))
    return Experiment("activity", teacher, student, train, test, options, unseen)


def main() -> None:
    chosen = arguments(__doc__, ["activity"]).parse_args()
    compare(make(), chosen.arms, chosen.seeds, chosen.minutes, chosen.out or HERE / "activity.json")


if __name__ == "__main__":
    main()
