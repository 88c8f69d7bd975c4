"""ResNet-56 on CIFAR-10 after a short training: cut by edgepress and by Torch-Pruning, equal epochs, equal seeds.

    EDGEPRESS_DATA=... python benchmarks/pruning/resnet56.py --keep build/pruned
    EDGEPRESS_DATA=... python benchmarks/pruning/resnet56.py --keep build/pruned --peer --criterion taylor
    EDGEPRESS_DATA=... OMP_NUM_THREADS=1 python benchmarks/distillation/recover.py build/pruned --minutes 30

Every pruned network, whoever pruned it, goes through the same loop of `edgepress.train`: the 4,000 lossless training
images and their labels, flipped and shifted, SGD with a cosine schedule. A network that is still useful wants a smaller
learning rate than one that is not, so each gets its own: the best of three on the validation images of `cifar.py`,
with the first seed. Accuracy is that of the last epoch, on the first 1,000 lossless test images (standard error of one
figure about 0.9 points). What a teacher adds is measured in `cifar.py`.

Runs are added to the JSON file one by one: stop and go on as you like.
"""

import argparse
import itertools
import json
import time
from dataclasses import replace
from pathlib import Path

from cifar import cifar, validation
from harness import TASK, Experiment, run, spread

import edgepress.ir
from edgepress.distill import Term
from edgepress.importers import factory
from edgepress.measure.environment import describe
from edgepress.train import TrainOptions, evaluate

HERE = Path(__file__).parent
RATES = (0.001, 0.005, 0.02)


def experiment(path: Path, epochs: int) -> Experiment:
    """The original teaches the pruned network in `path`."""
    teacher = factory.find("../quantization/networks.py:resnet", HERE)(56)
    test = cifar("test", range(1000))
    options = TrainOptions(epochs=epochs, batch_size=64, amp="bf16", channels_last=True, augment=("flip", "shift"),
                           keep="last")  # fmt: skip
    student = edgepress.ir.load(path)
    return Experiment(path.name, teacher, student, cifar("train", range(4000)), test, options, validation(test))


class Record:
    """The JSON file: network -> {before, runs: {"seed rate": what `run` found}}."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.networks: dict = json.loads(path.read_text())["networks"] if path.exists() else {}

    def once(self, item: Experiment, seed: int, rate: float) -> dict[str, float]:
        """What a run finds; it is made unless the file has it."""
        runs, key = self.networks[item.name]["runs"], f"{seed} {rate}"
        if key not in runs:
            tried = replace(item, options=replace(item.options, lr=rate))
            runs[key] = run(tried, [Term("task")], seed)
            print(item.name, key, runs[key], flush=True)
            self.write(item)
        return runs[key]

    def write(self, item: Experiment) -> None:
        options = {"epochs": item.options.epochs, "rates": RATES, "images": len(item.train)}
        document = {"options": options, "networks": self.networks, "table": table(self.networks),
                    "environment": describe().model_dump()}  # fmt: skip
        self.path.write_text(json.dumps(document, indent=1) + "\n")


def chosen(runs: dict[str, dict[str, float]]) -> tuple[str, list[float]]:
    """The learning rate that the first seed's validation images prefer, and the test accuracies with it, in %."""
    first = {key.split()[1]: found["validation"] for key, found in runs.items() if key.startswith("0 ")}
    rate = max(first, key=first.__getitem__)
    return rate, [100 * found["test"] for key, found in runs.items() if key.endswith(f" {rate}")]


def table(networks: dict) -> list[str]:
    """One line per network: accuracy before and after, mean over the seeds with its standard error."""
    lines = [f"{'network':<22} before  after"]
    for name, rows in networks.items():
        rate, found = chosen(rows["runs"]) if rows["runs"] else ("", [])
        lines.append(f"{name:<22} {100 * rows['before']:.1f}    {spread(found)} (n = {len(found)}, rate {rate})")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", type=Path, help="folder of pruned programs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--out", type=Path, default=HERE / "recover.json")
    given = parser.parse_args()
    record, deadline = Record(given.out), time.perf_counter() + 60 * given.minutes
    items = [experiment(path, given.epochs) for path in sorted(given.programs.iterdir())]
    for item in items:
        record.networks.setdefault(item.name, {"before": evaluate(item.student, item.test, TASK), "runs": {}})
    for seed, item in itertools.product(range(given.seeds), items):
        for rate in RATES if not seed else [float(chosen(record.networks[item.name]["runs"])[0])]:
            if time.perf_counter() < deadline:
                record.once(item, seed, rate)
    print(*table(record.networks), sep="\n")


if __name__ == "__main__":
    main()
