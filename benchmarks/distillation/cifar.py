"""What each distillation loss brings on CIFAR-10: equal epochs, equal seeds, one table.

    EDGEPRESS_DATA=... OMP_NUM_THREADS=1 python benchmarks/distillation/cifar.py --minutes 10 [--experiment pruned20]

Experiments (teacher -> student):
  pruned20  ResNet-20 -> the same cut to half of its MACs (Taylor, global)
  pruned56  ResNet-56 -> the same cut to half of its MACs
  small     ResNet-56 -> ResNet-8, from random weights
Data: the first images of the lossless CIFAR-10 training set, flipped and shifted; test: its first 1,000 test images
(standard error about 0.8 points). The teachers' weights were trained by others on all 50,000 training images.

Runs are added to the JSON file one by one, arm after arm within a seed: stop and go on as you like.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from edgepress.data import Dataset, open_source
from edgepress.distill import Objective, Term, automatic_taps
from edgepress.importers import factory
from edgepress.ir import Program, capture
from edgepress.measure.environment import describe
from edgepress.prune import PruneOptions, prune
from edgepress.train import TrainOptions, evaluate, fit
from edgepress.train.tasks import get

HERE = Path(__file__).parent
NETWORKS = "../quantization/networks.py"
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
TASK = get("classification")


@dataclass(frozen=True)
class Experiment:
    """Teacher and student, and how the student is trained."""

    teacher: Program
    student: Program
    options: TrainOptions


def arms(student: Program, teacher: Program) -> dict[str, Callable[[], list[Term]]]:
    """Name -> the terms of its objective. Weights are those of the papers or of their authors' code."""
    taps = automatic_taps(student, teacher)
    kd = [Term("task", 0.1), Term("kd", 0.9, {"temperature": 4.0})]
    return {
        "fine-tuning": lambda: [Term("task")],
        "kd": lambda: kd,
        "kd alone": lambda: [Term("kd", 1.0, {"temperature": 4.0})],
        "dkd": lambda: [Term("task"), Term("dkd", 1.0, {"alpha": 1.0, "beta": 8.0, "temperature": 4.0})],
        "attention": lambda: [Term("task"), Term("attention", 5.0, taps=taps)],
        "similarity": lambda: [Term("task"), Term("similarity", 3000.0, taps=taps)],
        "relational": lambda: [Term("task"), Term("relational", 25.0, taps=taps[-1:])],
        "hint": lambda: [Term("task"), Term("hint", 1.0, taps=taps)],
        "kd + attention": lambda: [*kd, Term("attention", 5.0, taps=taps)],
        "kd + hint": lambda: [*kd, Term("hint", 1.0, taps=taps)],
    }


def cifar(split: str, limit: int, data: Path) -> Dataset:
    """The first `limit` images."""
    options = {"path": f"cifar10/{split}.npz", "scale": 1 / 255, "mean": MEAN, "std": STD}
    return open_source("npz", options, data).subset(range(limit))


def make(name: str, train: Dataset, epochs: int) -> Experiment:
    network = factory.find(f"{NETWORKS}:resnet", HERE)
    fresh = factory.find(f"{NETWORKS}:ResNetCifar", HERE)
    shared = {"epochs": epochs, "amp": "bf16", "channels_last": True, "augment": ("flip", "crop")}
    if name == "small":
        torch.manual_seed(0)
        student = capture(fresh(8), [torch.randn(2, 3, 32, 32)], input_names=["image"])
        return Experiment(network(56), student, TrainOptions(lr=0.1, batch_size=64, **shared))
    teacher = network(int(name.removeprefix("pruned")))
    batches = [(batch.inputs, batch.targets) for batch in train.subset(range(256)).batches(64)]
    options = PruneOptions(criterion="taylor", reduce={"macs": 0.5}, allocation="global", round_to=4)
    result = prune(teacher, options, batches, TASK.loss)
    return Experiment(teacher, result.program, TrainOptions(lr=0.02, batch_size=64, **shared))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="pruned20", choices=["pruned20", "pruned56", "small"])
    parser.add_argument("--arms", nargs="*", help="a choice of arms; all unless given")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    out = arguments.out or HERE / f"{arguments.experiment}.json"
    data = Path(os.environ["EDGEPRESS_DATA"])
    train, test = cifar("train", arguments.images, data), cifar("test", 1000, data)
    experiment = make(arguments.experiment, train, arguments.epochs)
    record = _record(out, arguments, experiment, test)
    deadline, longest = time.perf_counter() + 60 * arguments.minutes, 0.0
    for seed in range(arguments.seeds):
        for name, terms in arms(experiment.student, experiment.teacher).items():
            wanted = not arguments.arms or name in arguments.arms
            begin = time.perf_counter()
            if not wanted or str(seed) in record["runs"].get(name, {}) or begin + longest > deadline:
                continue
            accuracy = run(experiment, terms(), train, test, seed)
            longest = max(longest, time.perf_counter() - begin)
            record["runs"].setdefault(name, {})[str(seed)] = accuracy
            out.write_text(json.dumps(record, indent=1) + "\n")
            print(f"seed {seed} {name}: {accuracy:.4f} ({time.perf_counter() - begin:.0f} s)", flush=True)
    print(table(record))


def run(experiment: Experiment, terms: list[Term], train: Dataset, test: Dataset, seed: int) -> float:
    """Test accuracy of the last epoch: the test set chooses nothing."""
    student, teacher = experiment.student, experiment.teacher
    objective = Objective(terms, TASK.loss, student=student, teacher=teacher, seed=seed)
    options = TrainOptions(**{**vars(experiment.options), "seed": seed})
    needs_teacher = any(term.loss != "task" for term in terms)
    result = fit(student, train, objective=objective, options=options, task=TASK,
                 teacher=teacher if needs_teacher else None)  # fmt: skip
    return evaluate(result.program, test, TASK)


def _record(out: Path, arguments: argparse.Namespace, experiment: Experiment, test: Dataset) -> dict:
    """What earlier invocations found, if their settings are the same."""
    settings = {"images": arguments.images, **json.loads(experiment.options.to_json())}
    if out.is_file():
        record = json.loads(out.read_text())
        if record["settings"] == settings and record["student"] == experiment.student.digest():
            return record
    return {
        "experiment": arguments.experiment,
        "settings": settings,
        "student": experiment.student.digest(),
        "parameters": {
            "teacher": experiment.teacher.parameter_count(),
            "student": experiment.student.parameter_count(),
        },
        "accuracy_before": {
            "teacher": evaluate(experiment.teacher, test, TASK),
            "student": evaluate(experiment.student, test, TASK),
        },
        "test_images": len(test),
        "environment": describe().model_dump(),
        "runs": {},
    }


def table(record: dict) -> str:
    """Mean accuracy per arm, its standard error over seeds, and the paired difference to fine-tuning, in points."""
    lines = [f"before: {record['accuracy_before']}", f"{'arm':<16} seeds  accuracy     over fine-tuning"]
    plain = record["runs"].get("fine-tuning", {})
    for name, runs in record["runs"].items():
        gains = [100 * (runs[seed] - plain[seed]) for seed in runs if seed in plain]
        lines.append(f"{name:<16} {len(runs):>5}  {_spread([100 * a for a in runs.values()])}  {_spread(gains)}")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.2f}" if values else "-"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values) / len(values) ** 0.5:.2f}"


if __name__ == "__main__":
    main()
