"""How far a run is: plain data that a checkpoint keeps beside the tensors."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgepress.train.progress import EpochLog, log_from


@dataclass
class History:
    """Counters and the log.

    Attributes:
        epoch: current epoch from 0. position: steps done in it. step: steps done in all.
        loss_sum, samples, seconds: of the current epoch. stale: epochs since the best one.
    """

    epoch: int = 0
    position: int = 0
    step: int = 0
    loss_sum: float = 0.0
    samples: int = 0
    seconds: float = 0.0
    best_metric: float | None = None
    best_epoch: int = 0
    stale: int = 0
    stopped: bool = False
    log: list[EpochLog] = field(default_factory=list)

    def to_facts(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "History":
        return cls(**{**facts, "log": log_from(facts["log"])})

    @property
    def mean_loss(self) -> float | None:
        """Of the current epoch so far, `None` before its first step."""
        return self.loss_sum / self.samples if self.samples else None

    def close_epoch(self, lr: float, metric: float | None) -> None:
        """Write the current epoch into the log and begin the next."""
        entry = EpochLog(
            epoch=self.epoch + 1,
            step=self.step,
            loss=self.loss_sum / self.samples,
            lr=lr,
            metric=metric,
            seconds=self.seconds,
            samples_per_second=self.samples / self.seconds,
        )
        self.log.append(entry)
        self.epoch, self.position = self.epoch + 1, 0
        self.loss_sum, self.samples, self.seconds = 0.0, 0, 0.0
