"""What a user may ask of post-training quantization."""

from dataclasses import dataclass
from typing import Literal

Observer = Literal["minmax", "moving_average", "percentile", "mse", "entropy"]


@dataclass(frozen=True)
class QuantOptions:
    """Settings of `post_training.quantize`.

    Attributes:
        weight_bits: 2 to 8; below 8 the values still travel in int8 where the target has no narrower kernel.
        activation_bits: 8, or `None` for weights only.
        observer: how ranges of activations are chosen.
        keep_float: nodes, or layers by dotted prefix, that stay float because the user says so.
        edge_bits: width of the weights of the first and the last layer.
    """

    weight_bits: int = 8
    activation_bits: int | None = 8
    observer: Observer = "minmax"
    keep_float: tuple[str, ...] = ()
    edge_bits: int | None = None

    def __post_init__(self) -> None:
        for name in ("weight_bits", "activation_bits", "edge_bits"):
            bits = getattr(self, name)
            if bits is not None and not 2 <= bits <= 8:
                raise ValueError(f"{name} is {bits}: 2 to 8 are possible")
