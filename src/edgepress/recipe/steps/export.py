"""`export:` write the artifact that ships."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from edgepress.recipe.section import Section, problem
from edgepress.recipe.steps.step import StepConfig


class KeepFloat(Section):
    """What stays float32 in a 16-bit model.

    Attributes:
        ops: ONNX operators, e.g. `[Softmax]`. names: regular expressions for names of nodes or of what they compute.
        borders: inputs and outputs stay float32.
    """

    ops: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    borders: bool = True


class Engine(Section):
    """How a TensorRT engine is built.

    Attributes:
        max_batch: largest batch it takes, where the batch is free; tuned for `measure.latency.batch`.
        workspace_mib: memory for tactics. optimization_level: 0 (quick build) to 5.
        version_compatible, hardware, refit: which TensorRT and which GPUs load it, whether weights can be replaced.
    """

    max_batch: PositiveInt = 64
    workspace_mib: PositiveInt = 1024
    optimization_level: Annotated[int, Field(ge=0, le=5)] = 3
    version_compatible: bool = False
    hardware: Literal["this", "same-compute-capability", "ampere+"] = "this"
    refit: bool = False


class Export(StepConfig):
    """What ships. Besides, every target gets the format that it runs.

    Attributes:
        format: `onnx`, `ort` (onnxruntime's own), `openvino`, `tensorrt`, `pt2` (torch.export), `aot` (AOTInductor), or
            `c`: the ONNX file and beside it C sources for the first microcontroller target.
        opset: version of the ONNX operator set. precision: number format of what is not quantized; 16 bits are for the
            formats that come from ONNX. keep_float: what stays float32 then; what would overflow on the calibration
            samples stays so by itself. batch: a fixed batch size instead of a free one.
        engine: for TensorRT. name: prefix of the C symbols.
    """

    kind: ClassVar[str] = "export"
    format: Literal["onnx", "ort", "openvino", "tensorrt", "pt2", "aot", "c"] = "onnx"
    opset: Annotated[int, Field(ge=13, le=25)] = 17
    precision: Literal["float32", "float16", "bfloat16"] = "float32"
    keep_float: KeepFloat = KeepFloat()
    batch: PositiveInt | None = None
    engine: Engine = Engine()
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = "model"

    @model_validator(mode="after")
    def _precision_of_a_format_that_has_one(self) -> "Export":
        if self.precision != "float32" and self.format in ("pt2", "aot", "c"):
            raise problem(
                f"export to {self.format} has no 16-bit form",
                at="precision",
                found=self.precision,
                expected="float32",
                fix="remove precision, or use format onnx, openvino or tensorrt",
            )
        return self
