"""`prune:` cut coupled channels."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from edgepress.recipe.section import Section, exactly_one
from edgepress.recipe.steps.step import Need, StepConfig

Share = Annotated[float, Field(gt=0, lt=1)]


class Reduce(Section):
    """How much to take away, as a share of the whole: exactly one of `macs`, `params`, `channels`."""

    macs: Share | None = None
    params: Share | None = None
    channels: Share | None = None

    @property
    def metric(self) -> str:
        """Which of the three is given."""
        return exactly_one("prune.reduce", self._alternatives())

    @property
    def share(self) -> float:
        """The share to remove, in (0, 1)."""
        value: float = getattr(self, self.metric)
        return value

    def _alternatives(self) -> dict[str, float | None]:
        return {"macs": self.macs, "params": self.params, "channels": self.channels}

    @model_validator(mode="after")
    def _one_metric(self) -> "Reduce":
        exactly_one("prune.reduce", self._alternatives())
        return self


class Prune(StepConfig):
    """Structured pruning over coupled channel groups.

    Attributes:
        criterion: how the importance of a channel is scored. `taylor` looks at training data.
        allocation: `global` ranks all channels together, `uniform` takes the same share of each group.
        round_to: kept channels are a multiple of this. minimum: channels each group keeps at least.
        ignore: regular expressions of node names that stay whole.
        reconstruct: re-fit the weights behind the cut by least squares on calibration activations.
    """

    kind: ClassVar[str] = "prune"
    criterion: Literal["l1", "l2", "taylor", "random"] = "taylor"
    reduce: Reduce
    allocation: Literal["global", "uniform"] = "global"
    round_to: PositiveInt = 8
    minimum: PositiveInt = 8
    ignore: tuple[str, ...] = ()
    reconstruct: bool = True

    def needs(self) -> frozenset[Need]:
        return frozenset({"train"}) if self.criterion == "taylor" or self.reconstruct else frozenset()
