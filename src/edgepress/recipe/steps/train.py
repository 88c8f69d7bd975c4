"""`train:` recover what compression took, with the uncompressed original as teacher where asked for."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from edgepress.recipe.section import Section
from edgepress.recipe.steps.step import Need, StepConfig

Share = Annotated[float, Field(ge=0, lt=1)]


class Distill(Section):
    """Learn from the original.

    Attributes:
        loss: on the outputs: `kd` (softened logits, Hinton et al. 2015), `dkd`, `regression`, `sequence`.
        temperature: how much logits are softened, where the loss has one.
        weight: share of the distillation loss; 1 - weight is left for the task's own loss.
    """

    loss: Literal["kd", "dkd", "regression", "sequence", "channel_wise"] = "kd"
    temperature: PositiveFloat = 4.0
    weight: Annotated[float, Field(ge=0, le=1)] = 0.7


class Train(StepConfig):
    """One seeded training run.

    Attributes:
        lr: highest learning rate. schedule: what it does after `warmup` (a share of all steps).
        validation: share of the training data held out to choose the best epoch by; 0 keeps the last epoch.
        label_smoothing, ema, clip, accumulate, amp, channels_last, compile, augment, mixup, cutmix, patience: see
            `edgepress.train.TrainOptions`.
    """

    kind: ClassVar[str] = "train"
    epochs: PositiveInt = 3
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: PositiveFloat = 0.001
    momentum: Share = 0.9
    weight_decay: NonNegativeFloat = 0.0001
    schedule: Literal["cosine", "onecycle", "step", "constant"] = "cosine"
    warmup: Share = 0.1
    batch_size: PositiveInt = 64
    validation: Share = 0.1
    label_smoothing: Share = 0.0
    ema: Share = 0.0
    clip: NonNegativeFloat = 0.0
    accumulate: PositiveInt = 1
    amp: Literal["off", "bf16", "fp16"] = "off"
    channels_last: bool = False
    compile: bool = False
    augment: tuple[str, ...] = ()
    mixup: NonNegativeFloat = 0.0
    cutmix: NonNegativeFloat = 0.0
    patience: NonNegativeInt = 0
    distill: Distill | None = None

    def needs(self) -> frozenset[Need]:
        return frozenset({"train"})

    def loop_settings(self) -> dict[str, Any]:
        """What the training loop takes, by its names."""
        return self.model_dump(exclude={"distill", "validation"}, mode="json")
