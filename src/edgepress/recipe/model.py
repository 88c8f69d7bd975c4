"""`model:` the door through which the trained network comes in."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, JsonValue, PositiveInt, model_validator

from edgepress.recipe.section import FunctionRef, RecipePath, Section, absolute_if_folder, exactly_one, problem

DType = Literal["float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"]


HubOrFolder = Annotated[str, Field(min_length=1), AfterValidator(absolute_if_folder)]


class InputSpec(Section):
    """One input of the network.

    Attributes:
        shape: sizes without the batch dimension, e.g. `[3, 32, 32]`; `[]` for one scalar per sample.
        batch: a fixed batch size; the batch dimension is dynamic without it.
    """

    shape: tuple[PositiveInt, ...]
    dtype: DType = "float32"
    batch: PositiveInt | None = None


class Network(Section):
    """A network beside the recipe's own: a student, or another teacher. Exactly one of the doors.

    Attributes:
        factory: function that builds the network; kwargs: its arguments.
        weights: safetensors file or state dict (.pt, .pth, .th), loaded into what the factory built.
        pt2: a `torch.export` archive. onnx: an ONNX file. huggingface: a repository id or a folder.
        inputs: name -> shape and type, in the order of the network's arguments; those of `model` without it.
    """

    section: ClassVar[str] = "a network"
    factory: FunctionRef | None = None
    kwargs: dict[str, JsonValue] = Field(default_factory=dict)
    weights: RecipePath | None = None
    pt2: RecipePath | None = None
    onnx: RecipePath | None = None
    huggingface: HubOrFolder | None = None
    inputs: dict[str, InputSpec] = Field(default_factory=dict)

    @property
    def door(self) -> str:
        """The key that is given: `factory`, `pt2`, `onnx` or `huggingface`."""
        return next(door for door, value in self._doors().items() if value is not None)

    @property
    def reference(self) -> str:
        """What stands behind the door: the function, the file or the repository."""
        return str(self._doors()[self.door])

    def _doors(self) -> dict[str, object]:
        return {"factory": self.factory, "pt2": self.pt2, "onnx": self.onnx, "huggingface": self.huggingface}

    @model_validator(mode="after")
    def _one_door(self) -> "Network":
        door = exactly_one(self.section, self._doors())
        if door != "factory":
            self._only_a_factory_takes_arguments(door)
        return self

    def _only_a_factory_takes_arguments(self, door: str) -> None:
        for key, given in (("kwargs", self.kwargs), ("weights", self.weights)):
            if given:
                raise problem(
                    f"{self.section}.{key} goes with {self.section}.factory only",
                    at=key,
                    found=f"{key} beside {door}",
                    expected=f"{door} alone: it holds its own weights",
                    fix=f"remove {key}",
                )


class ModelSource(Network):
    """The network to compress, described as every `Network`.

    Attributes:
        inputs: `factory` and `huggingface` need them where they cannot be known otherwise.
        bake_preprocess: put scale, mean, std and layout of `data.preprocess` into the graph: the artifact takes raw values
            as the data stores them.
    """

    section: ClassVar[str] = "model"
    bake_preprocess: bool = False

    @model_validator(mode="after")
    def _shapes_of_what_is_built(self) -> "ModelSource":
        if self.door == "factory" and not self.inputs:
            raise problem(
                "a network built by a factory needs the shapes of its inputs",
                found="no inputs",
                expected="inputs: {name: {shape: [sizes without batch]}}",
                fix="add model.inputs, e.g. inputs: {image: {shape: [3, 32, 32]}}",
            )
        return self
