"""What every step of a run may use: the recipe's settings, the original network, the data, the task, the target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from edgepress.ir import Program
from edgepress.pipeline.networks import Networks
from edgepress.pipeline.samples import Samples
from edgepress.recipe.model import Network
from edgepress.targets import Target
from edgepress.train.tasks import Task, first

CALIBRATION_BATCH = 64


class Reporter(Protocol):
    """Who is told how the work goes; the command line prints it."""

    def step(self, number: int, total: int, name: str) -> None:
        """A step begins."""

    def result(self, summary: str, *, reused: bool, seconds: float | None) -> None:
        """The step that began last is done."""

    def tell(self, text: str) -> None:
        """Anything worth a line."""

    def progress(self, text: str) -> None:
        """A fleeting state: replaces the previous one on a terminal, thinned out elsewhere."""


@dataclass(frozen=True)
class Bench:
    """The workplace of a run.

    Attributes:
        original: the network as imported: teacher and baseline.
        samples: the data. task: its loss, metric and predictions.
        targets: where the result will live; the first decides placement and alignment.
        seed: of every random choice. device: torch's device for training. reporter: who is told.
        networks: those that steps name beside the original; see `network`.
    """

    original: Program
    samples: Samples
    task: Task
    targets: tuple[Target, ...]
    seed: int
    device: str
    reporter: Reporter
    networks: Networks = field(default_factory=dict)

    def network(self, source: Network) -> Program:
        """The program behind a network that some step of the recipe names."""
        return self.networks[source.model_dump_json()]

    @property
    def target(self) -> Target:
        return self.targets[0]

    def calibration_batches(self, samples: int | None = None) -> Iterator[tuple[tuple[Tensor, ...], Tensor | None]]:
        """(inputs, what the task's loss compares the outputs with) of the calibration set, in batches."""
        for batch in self.samples.calibrating(samples).batches(CALIBRATION_BATCH):
            yield batch.inputs, self.task.goal(batch.inputs, batch.targets)

    def loss(self, outputs: Tensor | tuple[Tensor, ...], targets: Tensor) -> Tensor:
        """The task's own loss."""
        return self.task.loss(first(outputs), targets, 0.0)


def labelled(batches: Iterable[tuple[tuple[Tensor, ...], Tensor | None]]) -> list[tuple[tuple[Tensor, ...], Tensor]]:
    """Those batches that have targets."""
    return [(inputs, targets) for inputs, targets in batches if targets is not None]
