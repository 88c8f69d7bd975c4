"""What a user may ask of post-training quantization."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Cost = Literal["bytes", "bit_ops"]
Observer = Literal["auto", "minmax", "moving_average", "percentile", "mse", "entropy"]


@dataclass(frozen=True)
class Mixed:
    """What is weighed.

    Attributes:
        widths: bits a weight may have. cost: `bytes` of the weights, or `bit_ops`: multiply-accumulates times the
            weight's bits. average_bits: the cost may be that of so many bits everywhere. max_loss: or the error (in
            nats, or as a share of the output's energy) may be so large.
        samples: of calibration data that are looked at.
    """

    average_bits: float | None = None
    max_loss: float | None = None
    widths: tuple[int, ...] = (2, 3, 4, 8)
    cost: Cost = "bytes"
    samples: int = 64

    def __post_init__(self) -> None:
        if (self.average_bits is None) == (self.max_loss is None):
            raise ValueError("a mixed allocation needs one of average_bits and max_loss")
        if len(self.widths) < 2 or any(not 2 <= bits <= 8 for bits in self.widths):
            raise ValueError("widths must be two or more of 2 to 8")


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
        mixed: lets every weight have a width of its own, in place of `weight_bits` (see `mixed`).
        layer_bits: (weight's name, width, reason), where that is decided already.
        weight_block: so many neighbours of a row share a scale in linear layers whose activations stay float.
        equalize: ranges of neighbouring layers are made equal first (see `equalize`).
        smooth: SmoothQuant's strength, 0 to 1 (see `smooth`); `None` leaves it out.
        awq: channels that matter are made larger before weights are rounded, for weights alone (see `smooth`).
        correct_biases: means that rounding shifts are put back (see `correct_biases`).
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
    mixed: Mixed | None = None
    layer_bits: tuple[tuple[str, int, str], ...] = ()
    weight_block: int | None = None
    equalize: bool = False
    smooth: float | None = None
    awq: bool = False
    correct_biases: bool = False
    rounding: Literal["auto", "nearest", "output"] = "auto"
    rounding_samples: int = 256
    reconstruct_steps: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("weight_bits", "activation_bits", "edge_bits"):
            bits = getattr(self, name)
            if bits is not None and not 2 <= bits <= 8:
                raise ValueError(f"{name} is {bits}: 2 to 8 are possible")
        if self.activation_bits is not None and (self.awq or self.weight_block):
            raise ValueError("awq and weight_block are for weights alone: set activation_bits to None")

    @property
    def rounds_by_output(self) -> bool:
        """Whether integers are chosen for the output of each layer."""
        widths = (self.weight_bits, self.edge_bits or 8, *(bits for _, bits, _ in self.layer_bits))
        narrow = min(widths) < 8 or self.mixed is not None
        return self.rounding == "output" or (self.rounding == "auto" and narrow)
