"""`export:` write the artifact that ships."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from edgepress.recipe.steps.step import StepConfig


class Export(StepConfig):
    """What ships.

    Attributes:
        format: `onnx`, or `c`: the ONNX file and beside it C sources for the first microcontroller target.
        opset: version of the ONNX operator set. name: prefix of the C symbols.
    """

    kind: ClassVar[str] = "export"
    format: Literal["onnx", "c"] = "onnx"
    opset: Annotated[int, Field(ge=13, le=25)] = 17
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = "model"
