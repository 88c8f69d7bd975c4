"""What a user may ask of post-training quantization."""

from collections.abc import Mapping
from dataclasses import dataclass, field
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
        slow: nodes that stay float because they were measured, with what was found.
        edge_bits: width of the weights of the first and the last layer.
        rounding: `nearest`, or `output`: integers chosen for the output of each layer (see `round_layers`); `auto`
            takes `output` below 8 bits, where it matters.
        rounding_samples: calibration samples held in memory for `output`.
        reconstruct_steps: gradient steps towards the float network afterwards (see `reconstruct`), without labels.
        seed: of the order of samples in reconstruction.
    """

    weight_bits: int = 8
    activation_bits: int | None = 8
    observer: Observer = "minmax"
    keep_float: tuple[str, ...] = ()
    slow: Mapping[str, str] = field(default_factory=dict)
    edge_bits: int | None = None
    rounding: Literal["auto", "nearest", "output"] = "auto"
    rounding_samples: int = 256
    reconstruct_steps: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("weight_bits", "activation_bits", "edge_bits"):
            bits = getattr(self, name)
            if bits is not None and not 2 <= bits <= 8:
                raise ValueError(f"{name} is {bits}: 2 to 8 are possible")

    @property
    def rounds_by_output(self) -> bool:
        """Whether integers are chosen for the output of each layer."""
        narrow = min(self.weight_bits, self.edge_bits or 8) < 8
        return self.rounding == "output" or (self.rounding == "auto" and narrow)
