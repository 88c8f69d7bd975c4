"""`train:` recover what compression took, with the uncompressed original as teacher where asked for."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from edgepress.recipe.model import Network
from edgepress.recipe.steps.distill import LABELS, Distill
from edgepress.recipe.steps.step import Need, StepConfig

Share = Annotated[float, Field(ge=0, lt=1)]


class Train(StepConfig):
    """One seeded training run. Behind a `quantize` step it is quantization-aware: weights and scales learn together.

    Attributes:
        lr: highest learning rate. schedule: what it does after `warmup` (a share of all steps).
        validation: share of the training data held out to choose the best epoch by; 0 keeps the last epoch.
        student: the network to train from here on, in place of what the steps before left.
        distill: learn from a teacher; the task's own loss alone without it.
        track: where else each epoch is logged: `tensorboard` (into `logs` of the run), `mlflow`.
        label_smoothing, ema, clip, accumulate, amp, channels_last, compile, augment, mixup, cutmix, patience: see
            `edgepress.train.TrainOptions`.
    """

    kind: ClassVar[str] = "train"
    epochs: PositiveInt = 3
    optimizer: Literal["adamw", "sgd", "lion"] = "adamw"
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
    track: tuple[Literal["tensorboard", "mlflow"], ...] = ()
    student: Network | None = None
    distill: Distill | None = None

    def needs(self) -> frozenset[Need]:
        return frozenset({"train"})

    def networks(self) -> tuple[Network, ...]:
        teachers = (self.distill.teachers or ()) if self.distill else ()
        return (self.student, *teachers) if self.student else teachers

    def needs_labels(self, task: str) -> bool:
        """Whether some loss compares outputs with targets."""
        return self.distill is None or any(term.loss in LABELS for term in self.distill.terms(task))

    def loop_settings(self) -> dict[str, Any]:
        """What the training loop takes, by its names."""
        return self.model_dump(exclude={"distill", "student", "track", "validation"}, mode="json")
