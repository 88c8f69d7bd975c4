"""`prune:` cut coupled channels."""

from typing import Annotated, ClassVar

from pydantic import ByteSize, Field, PositiveFloat, PositiveInt, model_validator

from edgepress.analysis.pruning_terms import (
    WEIGHT_CRITERIA,
    Aggregation,
    Allocation,
    Attention,
    Criterion,
    Normalization,
)
from edgepress.recipe.section import Section, problem
from edgepress.recipe.steps.step import Need, StepConfig

Share = Annotated[float, Field(gt=0, lt=1)]
Amount = Annotated[ByteSize, Field(gt=0)]


class Reduce(Section):
    """How much to take away, as a share of the whole; with several, all of them are met.

    Attributes:
        activations: of the peak of all values held at a time. latency: of the time measured on the first target, of
            the exported network, in turns with the exported original.
    """

    macs: Share | None = None
    params: Share | None = None
    bytes: Share | None = None
    activations: Share | None = None
    latency: Share | None = None

    @property
    def shares(self) -> dict[str, float]:
        """The shares that are given, each in (0, 1)."""
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return {metric: share for metric, share in given.items() if share is not None}

    @model_validator(mode="after")
    def _something_to_reduce(self) -> "Reduce":
        if not self.shares:
            raise problem(
                "prune.reduce is empty",
                found="nothing to reduce",
                expected=", ".join(type(self).model_fields),
                fix="e.g. reduce: {macs: 0.5}",
            )
        return self


class DeviceBudget(Section):
    """What the network may need on the first target, a microcontroller, as generated C of int8; all of them are met.

    Amounts are numbers, or such as `64 kB`, `32 KiB`, `1.5M`.

    Attributes:
        flash: code and constants, bytes. arena: working memory, bytes. instructions: executed per inference.
    """

    flash: Amount | None = None
    arena: Amount | None = None
    instructions: Amount | None = None

    @property
    def limits(self) -> dict[str, int]:
        """Figure of the target -> limit."""
        given = {"flash_bytes": self.flash, "arena_bytes": self.arena, "instructions": self.instructions}
        return {figure: int(limit) for figure, limit in given.items() if limit is not None}

    @model_validator(mode="after")
    def _something_to_keep(self) -> "DeviceBudget":
        if not self.limits:
            expected, fix = ", ".join(type(self).model_fields), "e.g. budget: {flash: 64 kB}"
            raise problem("prune.budget is empty", found="no limit", expected=expected, fix=fix)
        return self


class Learn(Section):
    """Training before the cut that drives whole channels to zero (group lasso).

    Attributes:
        strength: of the lasso term beside the task's loss; 1e-5 to 1e-3.
    """

    epochs: PositiveInt = 3
    strength: PositiveFloat = 1e-4
    lr: PositiveFloat = 0.01
    batch_size: PositiveInt = 64


class Prune(StepConfig):
    """Structured pruning over coupled channel groups.

    Attributes:
        reduce, budget: how much goes; one of them, or both.
        criterion: how the importance of a channel is scored; see docs/pruning.md for the papers.
        aggregation: how the shares of the tensors of a channel become one score. normalization: the scale of scores
            within a group; `auto` divides magnitudes by the group's mean.
        allocation: `global` ranks all channels together, `uniform` takes the same share of each group, `sensitivity`
            weighs by the measured loss of each group.
        attention: attention loses whole `heads`, or `width`: the same share of every head of a layer.
        round_to: kept channels are a multiple of this; the target's alignment without it.
        minimum: channels each group keeps at least. ignore: regular expressions of node or tensor names left whole.
        reconstruct: re-fit the weights behind the cut by least squares on calibration activations.
        reestimate: measure the statistics of batch norms anew after the cut (needless after a re-fit).
        learn: train with sparsity learning first.
        iterations: cut in this many steps; 1 with a budget on latency.
        samples: calibration samples; `data.calibration.samples` without it.
    """

    kind: ClassVar[str] = "prune"
    criterion: Criterion = "surgeon"
    reduce: Reduce | None = None
    budget: DeviceBudget | None = None
    aggregation: Aggregation = "sum"
    normalization: Normalization = "auto"
    allocation: Allocation = "global"
    attention: Attention = "heads"
    round_to: PositiveInt | None = None
    minimum: PositiveInt = 1
    ignore: tuple[str, ...] = ()
    reconstruct: bool = True
    reestimate: bool = False
    iterations: PositiveInt = 1
    samples: PositiveInt | None = None
    learn: Learn | None = None

    @model_validator(mode="after")
    def _an_aim(self) -> "Prune":
        if self.reduce is None and self.budget is None:
            fix = "e.g. reduce: {macs: 0.5}, or budget: {flash: 64 kB} for a microcontroller"
            raise problem(
                "prune has no aim", found="neither reduce nor budget", expected="one of them, or both", fix=fix
            )
        if self.budget and (self.iterations > 1 or (self.reduce and self.reduce.latency)):
            found = "iterations" if self.iterations > 1 else "reduce.latency"
            raise problem("prune.budget stands alone", at="budget", found=f"{found} beside it",
                          expected="one iteration, no share of latency", fix=f"leave {found} out")  # fmt: skip
        return self

    def needs(self) -> frozenset[Need]:
        looks = self.allocation == "sensitivity" or self.reconstruct or self.reestimate or self.learn is not None
        return frozenset({"train"}) if looks or self.criterion not in WEIGHT_CRITERIA else frozenset()
