"""`quantize:` put Q/DQ where the target profits."""

from typing import ClassVar, Literal

from pydantic import PositiveInt

from edgepress.recipe.steps.step import Need, StepConfig


class Quantize(StepConfig):
    """Static post-training quantization.

    Attributes:
        scheme: `int8`: per-channel weights, per-tensor activations, placed from the target's capability table.
        observer: how ranges of activations are found.
        samples: calibration samples, drawn by the seed from `data.train`; `data.calibration.samples` without it.
    """

    kind: ClassVar[str] = "quantize"
    scheme: Literal["int8"] = "int8"
    observer: Literal["minmax"] = "minmax"
    samples: PositiveInt | None = None

    def needs(self) -> frozenset[Need]:
        return frozenset({"train"})
