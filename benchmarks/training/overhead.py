"""Images per second of `edgepress.train.fit` against hand-written loops of the same network and settings, interleaved.

    OMP_NUM_THREADS=1 python benchmarks/training/overhead.py [--depth 20] [--images 512] [--rounds 4] [--out FILE]

Contestants, each with batch 128, SGD with Nesterov momentum and weight decay, random inputs:
  naive  the plain nn.Module, float32, contiguous     ours_naive  `fit` with the same settings
  fast   the plain nn.Module, bf16, channels-last      ours_fast   `fit` with the same settings
Each round runs all four in turn, in an order that rotates; the first epoch of every contestant is not counted. Beside
the wall clock, the CPU time of the process is taken: other processes on the machine disturb it far less.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from edgepress.data import Dataset
from edgepress.importers import factory
from edgepress.ir import Program, capture
from edgepress.measure.environment import describe
from edgepress.train import Progress, TrainOptions, fit
from edgepress.train.tasks import get

HERE = Path(__file__).parent
BATCH, EPOCHS, LR, MOMENTUM, DECAY = 128, 3, 0.01, 0.9, 5e-4


@dataclass(frozen=True)
class Pace:
    """Images per second of wall-clock time and of CPU time."""

    wall: float
    cpu: float


class Stopwatch:
    """Notes both clocks at the end of each epoch."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, float]] = []

    def mark(self) -> None:
        self.marks.append((time.perf_counter(), time.process_time()))

    def pace(self, images: int) -> Pace:
        """Over all epochs but the first."""
        (wall0, cpu0), (wall1, cpu1) = self.marks[0], self.marks[-1]
        count = images * (len(self.marks) - 1)
        return Pace(count / (wall1 - wall0), count / (cpu1 - cpu0))


def by_hand(network: torch.nn.Module, data: Dataset, fast: bool) -> Pace:
    """The loop that one would write."""
    images, labels = data.inputs[0], data.targets
    layout = torch.channels_last if fast else torch.contiguous_format
    network = network.train().to(memory_format=layout)
    optimizer = torch.optim.SGD(network.parameters(), lr=LR, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY)
    watch = Stopwatch()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(images)).split(BATCH):
            x, y = images[rows].contiguous(memory_format=layout), labels[rows]
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=fast):
                outputs = network(x)
            loss = F.cross_entropy(outputs.float(), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            loss.item()
        watch.mark()
    return watch.pace(len(images))


def by_fit(program: Program, data: Dataset, fast: bool) -> Pace:
    options = TrainOptions(
        epochs=EPOCHS, batch_size=BATCH, lr=LR, momentum=MOMENTUM, weight_decay=DECAY,
        amp="bf16" if fast else "off", channels_last=fast,
    )  # fmt: skip
    watch, task, steps = Stopwatch(), get("classification"), -(-len(data) // BATCH)

    def on_progress(progress: Progress) -> None:
        if progress.step == steps * (len(watch.marks) + 1):
            watch.mark()

    fit(program, data, objective=task.objective(), options=options, task=task, on_progress=on_progress)
    return watch.pace(len(data))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--out", type=Path, default=HERE / "overhead.json")
    arguments = parser.parse_args()
    make = factory.find("../quantization/networks.py:ResNetCifar", HERE)
    data = Dataset((torch.randn(arguments.images, 3, 32, 32),), torch.randint(0, 10, (arguments.images,)))
    program = capture(make(arguments.depth), [data.inputs[0][:2]])
    contestants: dict[str, Callable[[], Pace]] = {
        "naive": lambda: by_hand(make(arguments.depth), data, fast=False),
        "ours_naive": lambda: by_fit(program, data, fast=False),
        "fast": lambda: by_hand(make(arguments.depth), data, fast=True),
        "ours_fast": lambda: by_fit(program, data, fast=True),
    }
    paces = measure(contestants, arguments.rounds)
    result = {
        "network": f"ResNet-{arguments.depth}",
        "threads": torch.get_num_threads(),
        "images": arguments.images,
        "rounds": arguments.rounds,
        "images_per_second": {name: _summary(each) for name, each in paces.items()},
        "ratios": {
            "fit_to_hand_float32": _ratio(paces["ours_naive"], paces["naive"]),
            "fit_to_hand_bf16_channels_last": _ratio(paces["ours_fast"], paces["fast"]),
            "fit_bf16_channels_last_to_naive": _ratio(paces["ours_fast"], paces["naive"]),
        },
        "environment": describe().model_dump(),
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({k: result[k] for k in ("images_per_second", "ratios")}, indent=1))


def measure(contestants: dict[str, Callable[[], Pace]], rounds: int) -> dict[str, list[Pace]]:
    """Every contestant once per round, in rotating order."""
    names, paces = list(contestants), {name: list[Pace]() for name in contestants}
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            paces[name].append(contestants[name]())
    return paces


def _summary(paces: list[Pace]) -> dict[str, float]:
    return {clock: round(statistics.median(getattr(p, clock) for p in paces), 1) for clock in ("wall", "cpu")}


def _ratio(ours: list[Pace], theirs: list[Pace]) -> dict[str, float | list[float]]:
    """Median over rounds of the ratio within a round, and all of them."""
    result: dict[str, float | list[float]] = {}
    for clock in ("wall", "cpu"):
        each = [getattr(a, clock) / getattr(b, clock) for a, b in zip(ours, theirs, strict=True)]
        result[clock], result[f"{clock}_rounds"] = round(statistics.median(each), 4), [round(r, 4) for r in each]
    return result


if __name__ == "__main__":
    main()
