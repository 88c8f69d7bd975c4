"""Preprocessing that a network expects: layout, scale, mean and standard deviation.

x' = (scale * x - mean) / std        with mean and std per channel (dimension 1 of N, C, ...)
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from edgepress.data.dataset import Dataset
from edgepress.errors import UserError

OPTIONS = ("scale", "mean", "std", "layout")


@dataclass(frozen=True)
class Preprocess:
    """What happens to raw values before the network sees them.

    Attributes:
        scale: factor on raw values (1/255 for bytes). mean, std: per channel, after scaling; one value serves all.
        layout: "nchw" keeps dimensions; "nhwc" says that the source stores channels last, they are moved to the front.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: str = "nchw"

    def __post_init__(self) -> None:
        if any(value == 0 for value in self.std):
            raise UserError("preprocessing divides by zero", found=f"std {list(self.std)}",
                            expected="positive values", fix="correct `std`")  # fmt: skip
        if self.layout not in ("nchw", "nhwc"):
            raise UserError("unknown layout", found=str(self.layout), expected="nchw or nhwc")

    @property
    def is_identity(self) -> bool:
        return self == Preprocess()

    def apply(self, dataset: Dataset) -> Dataset:
        """The data set with its first input preprocessed to float32; other inputs stay as they are.

        Raises:
            UserError: the number of channels differs from that of `mean` or `std`.
        """
        if self.is_identity:
            return dataset
        first, *others = dataset.inputs
        return replace(dataset, inputs=(self.tensor(first), *others))

    def tensor(self, raw: Tensor) -> Tensor:
        """Preprocess (N, C, ...), or (N, ..., C) for "nhwc", to float32 (N, C, ...)."""
        if self.layout == "nhwc":
            raw = raw.movedim(-1, 1)
        values = raw.to(torch.float32) * self.scale
        if self.mean:
            values -= _per_channel(self.mean, values, "mean")
        if self.std:
            values /= _per_channel(self.std, values, "std")
        return values.contiguous()

    def affine(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(multiplier, offset) per channel such that x' = multiplier * x + offset: for baking it into a graph."""
        channels = max(len(self.mean), len(self.std), 1)
        mean, std = _spread(self.mean or (0.0,), channels), _spread(self.std or (1.0,), channels)
        return tuple(self.scale / s for s in std), tuple(-m / s for m, s in zip(mean, std, strict=True))


def from_options(options: Mapping[str, Any]) -> Preprocess:
    """Read `scale`, `mean`, `std` and `layout`; other keys are not looked at.

    Raises:
        UserError: values that are no numbers.
    """
    try:
        return Preprocess(
            scale=float(options.get("scale", 1.0)),
            mean=_floats(options.get("mean", ())),
            std=_floats(options.get("std", ())),
            layout=str(options.get("layout", "nchw")),
        )
    except (TypeError, ValueError) as error:
        raise UserError("cannot read the preprocessing", found=str(error),
                        expected="numbers for scale, mean and std") from error  # fmt: skip


def _floats(value: Any) -> tuple[float, ...]:
    return (float(value),) if isinstance(value, int | float) else tuple(float(v) for v in value)


def _per_channel(values: tuple[float, ...], like: Tensor, what: str) -> Tensor:
    channels = like.shape[1] if like.dim() > 1 else 1
    if len(values) not in (1, channels):
        raise UserError(f"`{what}` does not fit the data", found=f"{len(values)} values",
                        expected=f"1 or {channels}, one per channel", fix=f"correct `{what}` or `layout`")  # fmt: skip
    return torch.tensor(values).view(1, -1, *[1] * (like.dim() - 2)) if like.dim() > 1 else torch.tensor(values)


def _spread(values: tuple[float, ...], count: int) -> tuple[float, ...]:
    return values * count if len(values) == 1 else values
