"""How to train, as data: frozen, comparable, JSON-able."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edgepress.errors import UserError

Schedule = Literal["cosine", "onecycle", "step", "constant"]
CHOICES = {
    "optimizer": ("sgd", "adamw", "lion"),
    "schedule": ("cosine", "onecycle", "step", "constant"),
    "amp": ("off", "bf16", "fp16"),
    "keep": ("best", "last"),
}
POSITIVE = ("epochs", "batch_size", "lr", "accumulate")
FRACTIONS = ("warmup", "momentum", "label_smoothing", "ema")


@dataclass(frozen=True)
class TrainOptions:
    """Settings of `fit`.

    Attributes:
        epochs: passes over the data. batch_size: samples per optimizer step, on all processes together.
        optimizer: "sgd" (Nesterov momentum), "adamw" or "lion". lr: highest learning rate. weight_decay: on tensors of
            two or more dimensions only; biases and batch-norm scales are spared.
        schedule: "cosine" to `final_lr`, "onecycle" (up for `warmup`, then cosine; momentum stays), "step" (times 0.1
            at 50 and 75 % of the steps) or "constant"; all after a linear warm-up.
        warmup: fraction of the steps. final_lr: last learning rate as a fraction of `lr`.
        label_smoothing: mass moved to the other classes by classification losses.
        ema: decay of the exponential moving average of the weights per step, 0 for none; if on, the average is what
            is validated and returned.
        clip: largest gradient norm, 0 for none. accumulate: parts a batch is computed in, to save memory.
        amp: autocast to "bf16" or "fp16" (with loss scaling). channels_last: memory layout of 4-D tensors.
        compile: use torch.compile.
        cache_teacher: ask the teacher once per sample, where samples look the same every time.
        augment: names of `train.augment`. mixup, cutmix: Beta parameter, 0 for none.
        seed: of weights drawn here, data order, augmentation and dropout.
        patience: epochs without a better validation metric before stopping, 0 for never.
        keep: return the "best" weights by validation metric (the last ones without validation data) or the "last".
        checkpoint_steps: steps between checkpoints; 0 for one per epoch. device: torch device.
        settle: first make the statistics of batch norm those of the data (see `train.batchnorm`).
    """

    epochs: int = 10
    batch_size: int = 128
    optimizer: str = "sgd"
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    warmup: float = 0.05
    final_lr: float = 0.0
    label_smoothing: float = 0.0
    ema: float = 0.0
    clip: float = 0.0
    accumulate: int = 1
    amp: str = "off"
    channels_last: bool = False
    compile: bool = False
    cache_teacher: bool = False
    augment: tuple[str, ...] = ()
    mixup: float = 0.0
    cutmix: float = 0.0
    seed: int = 0
    patience: int = 0
    keep: str = "best"
    checkpoint_steps: int = 0
    device: str = "cpu"
    settle: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "augment", tuple(self.augment))
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise _wrong(name, getattr(self, name), " or ".join(choices))
        for name in POSITIVE:
            if not getattr(self, name) > 0:
                raise _wrong(name, getattr(self, name), "a positive number")
        for name in FRACTIONS:
            if not 0 <= getattr(self, name) < 1:
                raise _wrong(name, getattr(self, name), "at least 0 and below 1")
        if self.batch_size % self.accumulate:
            raise _wrong("accumulate", self.accumulate, f"a divisor of batch_size {self.batch_size}")

    def to_json(self) -> str:
        """Stable text: equal options give equal text."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


def options_from(values: Mapping[str, Any]) -> TrainOptions:
    """Options from plain data.

    Raises:
        UserError: an unknown name or a value out of range.
    """
    known = [field.name for field in dataclasses.fields(TrainOptions)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise UserError("unknown training option", found=", ".join(unknown), expected=", ".join(known))
    return TrainOptions(**values)


def _wrong(name: str, found: object, expected: str) -> UserError:
    return UserError(f"training option `{name}` is out of range", found=str(found), expected=expected,
                     fix=f"correct `{name}`")  # fmt: skip
