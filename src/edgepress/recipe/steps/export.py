"""`export:` write the artifact that ships."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from edgepress.recipe.steps.step import StepConfig


class Export(StepConfig):
    """One artifact. `opset` is the version of the ONNX operator set."""

    kind: ClassVar[str] = "export"
    format: Literal["onnx"] = "onnx"
    opset: Annotated[int, Field(ge=13, le=17)] = 17
