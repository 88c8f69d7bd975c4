"""`quantize:` put Q/DQ where the target profits."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from edgepress.recipe.steps.step import Need, StepConfig


class Quantize(StepConfig):
    """Static post-training quantization.

    Attributes:
        scheme: `int8`: per-channel weights, per-tensor activations, placed from the target's capability table.
        weight_bits: width of the weights. edge_bits: of the first and last layer, where that differs.
        activation_bits: null leaves activations float.
        rounding: `output` rounds weights so that the layer's output keeps, `auto` does so below 8 bits.
        reconstruct_steps: of block reconstruction after that.
        keep_float: nodes, or layers by dotted prefix, that stay float.
        observer: how ranges of activations are found.
        samples: calibration samples, drawn by the seed from `data.train`; `data.calibration.samples` without it.
    """

    kind: ClassVar[str] = "quantize"
    scheme: Literal["int8"] = "int8"
    weight_bits: Annotated[int, Field(ge=2, le=8)] = 8
    observer: Literal["minmax", "moving_average", "percentile", "mse", "entropy"] = "minmax"
    activation_bits: Literal[8] | None = 8
    rounding: Literal["auto", "nearest", "output"] = "auto"
    reconstruct_steps: NonNegativeInt = 0
    keep_float: tuple[str, ...] = ()
    edge_bits: Annotated[int, Field(ge=2, le=8)] | None = None
    samples: PositiveInt | None = None

    def needs(self) -> frozenset[Need]:
        return frozenset({"train"})
