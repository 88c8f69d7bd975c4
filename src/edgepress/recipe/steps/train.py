"""`train:` recover what compression took, with the uncompressed original as teacher where asked for."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from edgepress.recipe.section import Section
from edgepress.recipe.steps.step import Need, StepConfig


class Distill(Section):
    """Learn from the original.

    Attributes:
        loss: `kd`: softened logits (Hinton et al. 2015). temperature: how much they are softened.
        weight: share of the distillation loss; 1 - weight is left for the task's own loss.
    """

    loss: Literal["kd"] = "kd"
    temperature: PositiveFloat = 4.0
    weight: Annotated[float, Field(ge=0, le=1)] = 0.7


class Train(StepConfig):
    """One seeded training run; `lr` is the peak of a cosine that follows `warmup` (a share of all steps)."""

    kind: ClassVar[str] = "train"
    epochs: PositiveInt = 3
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: PositiveFloat = 0.001
    weight_decay: NonNegativeFloat = 0.0001
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    batch_size: PositiveInt = 64
    distill: Distill | None = None

    def needs(self) -> frozenset[Need]:
        return frozenset({"train"})
