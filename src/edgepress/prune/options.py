"""What a pruning step is asked to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgepress.analysis.pruning_terms import (
    AGGREGATIONS,
    ALLOCATIONS,
    ATTENTIONS,
    COSTS,
    CRITERIA,
    MAGNITUDES,
    NORMALIZATIONS,
    Aggregation,
    Allocation,
    Attention,
    Criterion,
    Normalization,
)
from edgepress.errors import UserError

WORDS = {
    "criterion": CRITERIA,
    "aggregation": AGGREGATIONS,
    "normalization": NORMALIZATIONS,
    "allocation": ALLOCATIONS,
    "attention": ATTENTIONS,
}


@dataclass(frozen=True)
class PruneOptions:
    """Settings of structured pruning.

    Attributes:
        reduce: fraction to remove per cost, such as {"macs": 0.5}; all of them are met. "activations" is the peak of
            all values held at a time, "latency" is measured (see `prune.timing`).
        criterion: how units are scored (see `prune.score`).
        aggregation: how the shares of the tensors that go together become one score (see `prune.tally`); the surgeon's
            order within a group is not affected. normalization: the scale of scores within a group; "auto" divides
            magnitudes by the group's mean and leaves estimates of the loss as they are.
        allocation: "global" ranks all units by score per cost; "uniform" removes the same fraction of every group;
            "sensitivity" weighs scores by the measured loss of each group.
        attention: attention loses whole "heads", or "width": the same share of every head of a layer.
        round_to: kept units per group become multiples of this where the group has that many. minimum: units each group
            keeps at least. ignore: regular expressions; a group is left alone if one of its tensors or nodes matches.
        reconstruct: refit the consumers of cut channels by least squares on the calibration batches.
        reestimate: measure the statistics of batch norms anew after the cut (after refitting there is nothing to gain).
        score_examples: at most this many calibration examples are scored on; refitting reads all.
        iterations: cut in this many steps, scoring again after each.
        seed: of the random criterion.
    """

    reduce: Mapping[str, float] = field(default_factory=lambda: {"macs": 0.5})
    criterion: Criterion = "surgeon"
    aggregation: Aggregation = "sum"
    normalization: Normalization = "auto"
    allocation: Allocation = "global"
    attention: Attention = "heads"
    round_to: int = 1
    minimum: int = 1
    ignore: tuple[str, ...] = ()
    reconstruct: bool = True
    reestimate: bool = False
    score_examples: int = 512
    iterations: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for cost, fraction in self.reduce.items():
            if cost not in COSTS:
                raise UserError("prune.reduce", found=cost, expected=", ".join(COSTS))
            if not 0 <= fraction < 1:
                raise UserError(f"prune.reduce.{cost}", found=str(fraction), expected="a fraction from 0 to below 1")
        for name, known in WORDS.items():
            if (given := getattr(self, name)) not in known:
                raise UserError(f"prune.{name}", found=str(given), expected=", ".join(known))
        if "latency" in self.reduce and self.iterations > 1:
            raise UserError(
                "prune.reduce.latency in several iterations",
                found=f"iterations: {self.iterations}",
                expected="1: the cut network is measured until it meets the budget",
                fix="set iterations to 1, or reduce macs instead",
            )
        for name in ("round_to", "minimum", "iterations", "score_examples"):
            if getattr(self, name) < 1:
                raise UserError(f"prune.{name}", found=str(getattr(self, name)), expected="1 or more")

    @property
    def scale(self) -> str:
        """The normalization, "auto" resolved."""
        if self.normalization != "auto":
            return self.normalization
        return "mean" if self.criterion in MAGNITUDES else "none"
