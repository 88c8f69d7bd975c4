"""`prune:` cut coupled channels."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from edgepress.recipe.section import Section, problem
from edgepress.recipe.steps.step import Need, StepConfig

Share = Annotated[float, Field(gt=0, lt=1)]
WEIGHT_CRITERIA = ("l1", "l2", "bn_scale", "fpgm", "lamp", "random")  # look at weights alone


class Reduce(Section):
    """How much to take away, as a share of the whole; with several, all of them are met."""

    macs: Share | None = None
    params: Share | None = None
    bytes: Share | None = None

    @property
    def shares(self) -> dict[str, float]:
        """The shares that are given, each in (0, 1)."""
        given = {"macs": self.macs, "params": self.params, "bytes": self.bytes}
        return {metric: share for metric, share in given.items() if share is not None}

    @model_validator(mode="after")
    def _something_to_reduce(self) -> "Reduce":
        if not self.shares:
            raise problem(
                "prune.reduce is empty",
                found="nothing to reduce",
                expected="macs, params or bytes",
                fix="e.g. reduce: {macs: 0.5}",
            )
        return self


class Prune(StepConfig):
    """Structured pruning over coupled channel groups.

    Attributes:
        criterion: how the importance of a channel is scored; see docs/pruning.md for the papers.
        allocation: `global` ranks all channels together, `uniform` takes the same share of each group, `sensitivity`
            weighs by the measured loss of each group.
        round_to: kept channels are a multiple of this; the target's alignment without it.
        minimum: channels each group keeps at least. ignore: regular expressions of node or tensor names left whole.
        reconstruct: re-fit the weights behind the cut by least squares on calibration activations.
        iterations: cut in this many steps. samples: calibration samples; `data.calibration.samples` without it.
    """

    kind: ClassVar[str] = "prune"
    criterion: Literal[
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
    ] = "surgeon"
    reduce: Reduce
    allocation: Literal["global", "uniform", "sensitivity"] = "global"
    round_to: PositiveInt | None = None
    minimum: PositiveInt = 1
    ignore: tuple[str, ...] = ()
    reconstruct: bool = True
    iterations: PositiveInt = 1
    samples: PositiveInt | None = None

    def needs(self) -> frozenset[Need]:
        blind = self.criterion in WEIGHT_CRITERIA and self.allocation != "sensitivity" and not self.reconstruct
        return frozenset() if blind else frozenset({"train"})
