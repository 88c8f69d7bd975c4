"""ResNet-56 on CIFAR-10 after a short fine-tuning: edgepress and Torch-Pruning, same epochs, same seeds, last epoch.

    EDGEPRESS_DATA=... python benchmarks/pruning/resnet56.py --keep build/pruned
    EDGEPRESS_DATA=... python benchmarks/pruning/resnet56.py --keep build/pruned --peer --criterion taylor
    EDGEPRESS_DATA=... python benchmarks/pruning/finetune.py build/pruned --out benchmarks/pruning/finetune.json

Every pruned network, whoever pruned it, goes through the same loop of `edgepress.train` with the same settings: the
4,000 lossless training images, flipped and shifted, SGD with a cosine schedule. Accuracy is of the first 1,000
lossless test images after the last epoch. Runs are added to the JSON file one by one; those there are not repeated.
"""

import argparse
import json
import time
from pathlib import Path

import cifar
import torch

import edgepress.ir
from edgepress.data import Dataset, open_source
from edgepress.ir import Program
from edgepress.train import TASKS, TrainOptions, fit

SETTINGS = {"batch_size": 64, "optimizer": "sgd", "lr": 0.02, "weight_decay": 5e-4, "schedule": "cosine",
            "augment": ("flip", "crop"), "amp": "bf16", "channels_last": True, "keep": "last"}  # fmt: skip


def training_images() -> Dataset:
    options = {"path": "cifar10/train.npz", "scale": 1 / 255, "mean": list(cifar.MEAN), "std": list(cifar.STD)}
    return open_source("npz", options, cifar.data_folder())


def fine_tune(program: Program, data: Dataset, seed: int, epochs: int) -> Program:
    task = TASKS["classification"]

    def objective(outputs: torch.Tensor, targets: torch.Tensor, teacher: object) -> torch.Tensor:
        return task.loss(outputs, targets, 0.0)

    options = TrainOptions(epochs=epochs, seed=seed, **SETTINGS)
    return fit(program, data, objective=objective, options=options, task=task).program


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("programs", type=Path, help="folder of pruned programs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True, help="add the results to this JSON file")
    given = parser.parse_args()
    document = json.loads(given.out.read_text()) if given.out.exists() else {"runs": []}
    done = {(run["network"], run["seed"], run["epochs"]) for run in document["runs"]}
    data = training_images()
    for seed in range(given.seeds):
        for path in sorted(given.programs.iterdir()):
            if (path.name, seed, given.epochs) in done:
                continue
            start, program = time.perf_counter(), edgepress.ir.load(path)
            tuned = fine_tune(program, data, seed, given.epochs)
            run = {"network": path.name, "seed": seed, "epochs": given.epochs,
                   "before": cifar.accuracy(program.module()), "after": cifar.accuracy(tuned.module()),
                   "seconds": time.perf_counter() - start}  # fmt: skip
            print(json.dumps(run), flush=True)
            document["runs"].append(run)
            document |= {"settings": SETTINGS, "environment": cifar.environment()}
            given.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
