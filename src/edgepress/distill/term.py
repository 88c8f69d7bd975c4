"""One ingredient of an objective: a loss, its weight over time, its settings, and where it looks."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from edgepress.distill import losses
from edgepress.distill.taps import Tap
from edgepress.errors import UserError

TASK = "task"
OUTPUT_LOSSES: Mapping[str, Callable[..., Tensor]] = {
    "kd": losses.kd,
    "dkd": losses.dkd,
    "sequence": losses.sequence,
    "regression": losses.regression,
    "channel_wise": losses.channel_wise,
}
FEATURE_LOSSES: Mapping[str, Callable[..., Tensor]] = {
    "hint": losses.hint,
    "attention": losses.attention,
    "relational": losses.relational,
    "similarity": losses.similarity,
}
USES_TARGETS = {"dkd": "labels", "sequence": "targets"}
SCHEDULES = ("constant", "up", "down")
RAMP = 0.2  # share of the training in which "up" reaches the whole weight


@dataclass(frozen=True)
class Term:
    """One ingredient.

    Attributes:
        loss: "task", or a key of `OUTPUT_LOSSES` or `FEATURE_LOSSES`. weight: its factor.
        settings: keyword arguments of the loss function (temperature, ...).
        output: which of several outputs an output loss compares. taps: where a feature loss looks.
        schedule: "constant"; "up": the weight grows linearly over the first fifth of the training; "down": it falls
            linearly to 0 at the end.
    """

    loss: str
    weight: float = 1.0
    settings: Mapping[str, float] = field(default_factory=dict)
    output: int = 0
    taps: tuple[Tap, ...] = ()
    schedule: str = "constant"

    def __post_init__(self) -> None:
        known = {TASK, *OUTPUT_LOSSES, *FEATURE_LOSSES}
        if self.loss not in known:
            raise UserError(f"unknown distillation loss {self.loss!r}", found=self.loss,
                            expected=", ".join(sorted(known)), fix="correct `losses`")  # fmt: skip
        if (self.loss in FEATURE_LOSSES) != bool(self.taps):
            raise UserError(f"loss {self.loss} and its taps do not go together", found=f"{len(self.taps)} taps",
                            expected="taps for losses on features, none for losses on outputs",
                            fix="correct `taps`")  # fmt: skip
        unknown = sorted(set(self.settings) - set(settings_of(self.loss)))
        if unknown:
            raise UserError(f"loss {self.loss} has no setting {unknown[0]}", found=", ".join(unknown),
                            expected=", ".join(settings_of(self.loss)) or "none",
                            fix="correct the settings of the loss")  # fmt: skip
        if self.schedule not in SCHEDULES:
            raise UserError("unknown schedule of a loss", found=self.schedule, expected=", ".join(SCHEDULES))

    @property
    def projects(self) -> bool:
        """Whether student features are first projected to the teacher's channels."""
        return self.loss == "hint"

    def weight_at(self, progress: float) -> float:
        """The factor when `progress` (0 to 1) of the training is done."""
        if self.schedule == "up":
            return self.weight * min(progress / RAMP, 1.0)
        return self.weight * (1 - progress) if self.schedule == "down" else self.weight


def settings_of(loss: str) -> list[str]:
    """Names of the settings that a loss function takes; none for "task" and unknown names."""
    function = OUTPUT_LOSSES.get(loss) or FEATURE_LOSSES.get(loss)
    parameters = inspect.signature(function).parameters.values() if function else ()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
