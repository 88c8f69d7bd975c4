"""What a pruning step is asked to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgepress.errors import UserError

Criterion = Literal[
    "surgeon",
    "activation_taylor",
    "activation_fisher",
    "taylor",
    "fisher",
    "l1",
    "l2",
    "bn_scale",
    "fpgm",
    "lamp",
    "wanda",
    "random",
]
CRITERIA: tuple[str, ...] = Criterion.__args__  # type: ignore[attr-defined]
COSTS = ("macs", "params", "bytes", "channels")


@dataclass(frozen=True)
class PruneOptions:
    """Settings of structured pruning.

    Attributes:
        reduce: fraction to remove per cost, such as {"macs": 0.5}; all of them are met.
        criterion: how units are scored (see `prune.score`).
        allocation: "global" ranks all units by score per cost; "uniform" removes the same fraction of every group;
            "sensitivity" weighs scores by the measured loss of each group.
        round_to: kept units per group become multiples of this where the group has that many. minimum: units each group
            keeps at least. ignore: regular expressions; a group is left alone if one of its tensors or nodes matches.
        reconstruct: refit the consumers of cut channels by least squares on the calibration batches.
        score_examples: at most this many calibration examples are scored on; refitting reads all.
        iterations: cut in this many steps, scoring again after each.
        seed: of the random criterion.
    """

    reduce: Mapping[str, float] = field(default_factory=lambda: {"macs": 0.5})
    criterion: Criterion = "surgeon"
    allocation: Literal["global", "uniform", "sensitivity"] = "global"
    round_to: int = 1
    minimum: int = 1
    ignore: tuple[str, ...] = ()
    reconstruct: bool = True
    score_examples: int = 512
    iterations: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for cost, fraction in self.reduce.items():
            if cost not in COSTS:
                raise UserError("prune.reduce", found=cost, expected=", ".join(COSTS))
            if not 0 <= fraction < 1:
                raise UserError(f"prune.reduce.{cost}", found=str(fraction), expected="a fraction from 0 to below 1")
        if self.criterion not in CRITERIA:
            raise UserError("prune.criterion", found=str(self.criterion), expected=", ".join(CRITERIA))
        for name in ("round_to", "minimum", "iterations", "score_examples"):
            if getattr(self, name) < 1:
                raise UserError(f"prune.{name}", found=str(getattr(self, name)), expected="1 or more")
