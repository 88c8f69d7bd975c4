"""Images per second of `edgepress.train.fit` against hand-written loops of the same network and settings.

    OMP_NUM_THREADS=1 python benchmarks/training/overhead.py [--depth 20] [--steps 40] [--out FILE]

Contestants, each with batch 128, SGD with Nesterov momentum and weight decay, random inputs:
  naive  the plain nn.Module, float32, contiguous     ours_naive  `fit` with the same settings
  fast   the plain nn.Module, bf16, channels-last      ours_fast   `fit` with the same settings
They take turns step by step, in an order that rotates, so that whatever else the machine does meets all alike. A step
of `fit` is all that it does per step: gathering the batch, seeding, schedule, checking the loss, counting, reporting.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from edgepress.data import Dataset
from edgepress.importers import factory
from edgepress.ir import Program, capture
from edgepress.measure.environment import describe
from edgepress.train import TrainOptions
from edgepress.train.job import Job
from edgepress.train.randomness import reproducible
from edgepress.train.session import Session
from edgepress.train.tasks import get

HERE = Path(__file__).parent
BATCH, LR, MOMENTUM, DECAY, WARM_UP = 128, 0.01, 0.9, 5e-4, 2
Step = Callable[[torch.Tensor], float]
"""Rows of the data -> seconds that the step took."""


def by_hand(network: torch.nn.Module, data: Dataset, fast: bool) -> Step:
    """The step that one would write."""
    images, labels = data.inputs[0], data.targets
    layout = torch.channels_last if fast else torch.contiguous_format
    network = network.train().to(memory_format=layout)
    optimizer = torch.optim.SGD(network.parameters(), lr=LR, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY)

    def step(rows: torch.Tensor) -> float:
        begin = time.perf_counter()
        x, y = images[rows].contiguous(memory_format=layout), labels[rows]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=fast):
            outputs = network(x)
        loss = F.cross_entropy(outputs.float(), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        return time.perf_counter() - begin

    return step


def by_fit(program: Program, data: Dataset, fast: bool) -> Step:
    """The same, as `fit` does it."""
    options = TrainOptions(
        epochs=1000, batch_size=BATCH, lr=LR, momentum=MOMENTUM, weight_decay=DECAY, amp="bf16" if fast else "off",
        channels_last=fast,
    )  # fmt: skip
    task = get("classification")
    session = Session(Job(program, data, task.objective(), options, task), None, lambda progress: None)

    def step(rows: torch.Tensor) -> float:
        with reproducible():
            begin = time.perf_counter()
            session.step(rows)
            return time.perf_counter() - begin

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--out", type=Path, default=HERE / "overhead.json")
    arguments = parser.parse_args()
    make = factory.find("../quantization/networks.py:ResNetCifar", HERE)
    data = Dataset((torch.randn(4 * BATCH, 3, 32, 32),), torch.randint(0, 10, (4 * BATCH,)))
    program = capture(make(arguments.depth), [data.inputs[0][:2]])
    contestants = {
        "naive": by_hand(make(arguments.depth), data, fast=False),
        "ours_naive": by_fit(program, data, fast=False),
        "fast": by_hand(make(arguments.depth), data, fast=True),
        "ours_fast": by_fit(program, data, fast=True),
    }
    seconds = measure(contestants, len(data), arguments.steps)
    result = {
        "network": f"ResNet-{arguments.depth}",
        "threads": torch.get_num_threads(),
        "batch": BATCH,
        "steps": arguments.steps,
        "images_per_second": {name: round(BATCH / statistics.median(each), 1) for name, each in seconds.items()},
        "ratios": {
            "fit_to_hand_float32": ratio(seconds["naive"], seconds["ours_naive"]),
            "fit_to_hand_bf16_channels_last": ratio(seconds["fast"], seconds["ours_fast"]),
            "fit_bf16_channels_last_to_naive": ratio(seconds["naive"], seconds["ours_fast"]),
        },
        "environment": describe().model_dump(),
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({k: result[k] for k in ("images_per_second", "ratios")}, indent=1))


def measure(contestants: dict[str, Step], images: int, steps: int) -> dict[str, list[float]]:
    """Seconds of every contestant's steps; all take each step on the same rows, in rotating order."""
    names, seconds = list(contestants), {name: list[float]() for name in contestants}
    for number in range(WARM_UP + steps):
        rows = torch.randperm(images)[:BATCH]
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            taken = contestants[name](rows)
            if number >= WARM_UP:
                seconds[name].append(taken)
    return seconds


def ratio(theirs: list[float], ours: list[float]) -> dict[str, float]:
    """Speed of ours over theirs: median of the ratios step by step, with a bootstrap 95 % interval; and of quiet steps.

    "quiet" compares the lower quartiles: the steps that other processes disturbed least.
    """
    each = torch.tensor(theirs) / torch.tensor(ours)
    draws = torch.randint(0, len(each), (2000, len(each)), generator=torch.Generator().manual_seed(0))
    medians = each[draws].median(1).values
    quartile = torch.tensor(theirs).quantile(0.25) / torch.tensor(ours).quantile(0.25)
    return {
        "median": round(float(each.median()), 4),
        "low": round(float(medians.quantile(0.025)), 4),
        "high": round(float(medians.quantile(0.975)), 4),
        "quiet": round(float(quartile), 4),
    }


if __name__ == "__main__":
    main()
