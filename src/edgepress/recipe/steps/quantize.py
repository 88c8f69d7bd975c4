"""`quantize:` put Q/DQ where the target profits."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from edgepress.recipe.section import Section, exactly_one, problem
from edgepress.recipe.steps.step import Need, StepConfig

Bits = Annotated[int, Field(ge=2, le=8)]


class Mixed(Section):
    """A width of its own for every weight, under one budget.

    Attributes:
        average_bits: the cost of so many bits everywhere. max_loss: or the loss at the output: nats for class scores,
            a share of the energy otherwise.
        widths: what a weight may have. cost: `bytes`, or `bit_ops`: multiply-accumulates times bits.
    """

    average_bits: Annotated[float, Field(ge=2, le=8)] | None = None
    max_loss: PositiveFloat | None = None
    widths: Annotated[tuple[Bits, ...], Field(min_length=2)] = (2, 3, 4, 8)
    cost: Literal["bytes", "bit_ops"] = "bytes"

    @model_validator(mode="after")
    def _one_budget(self) -> "Mixed":
        exactly_one("mixed", {"average_bits": self.average_bits, "max_loss": self.max_loss})
        return self


class Quantize(StepConfig):
    """Static post-training quantization.

    Attributes:
        scheme: `int8`: per-channel weights, per-tensor activations, placed from the target's capability table.
            `dynamic`: int8 weights in linear and LSTM layers; the runtime finds the ranges of their inputs by itself.
        weight_bits: width of the weights. edge_bits: of the first and last layer, where that differs.
        activation_bits: null leaves activations float.
        rounding: `output` rounds weights so that the layer's output keeps, `auto` does so below 8 bits.
        reconstruct_steps: of block reconstruction after that.
        mixed: widths of the weights weighed against each other, in place of `weight_bits`.
        weight_block: so many neighbours of a row share a scale, in linear layers whose activations stay float.
        awq: channels that matter are made larger before they are rounded, for weights alone.
        equalize: ranges of neighbouring layers are made equal first; for targets with one scale per weight.
        smooth: strength of SmoothQuant, for linear layers behind layer norms. correct_biases: puts back the means
            that rounding shifts.
        keep_float: nodes, or layers by dotted prefix, that stay float.
        observer: how ranges of activations are found; `auto` measures at the outputs whether cutting rare values pays.
        samples: calibration samples, drawn by the seed from `data.train`; `data.calibration.samples` without it.
            Rounding by output looks at all of them; at 256 where this is not set.
        when_slower: what to do where integers are not faster than float on the first target, or the file is larger.
            `report` says so, and why, once both are measured; `float` measures here and keeps float what does not pay,
            node by node, or the whole network; `fail` does the same and fails if nothing pays.
    """

    kind: ClassVar[str] = "quantize"
    scheme: Literal["int8", "dynamic"] = "int8"
    weight_bits: Annotated[int, Field(ge=2, le=8)] = 8
    observer: Literal["auto", "minmax", "moving_average", "percentile", "mse", "entropy"] = "minmax"
    activation_bits: Literal[8] | None = 8
    rounding: Literal["auto", "nearest", "output"] = "auto"
    reconstruct_steps: NonNegativeInt = 0
    mixed: Mixed | None = None
    weight_block: Annotated[int, Field(ge=16, multiple_of=16)] | None = None
    awq: bool = False
    equalize: bool = False
    smooth: Annotated[float, Field(ge=0, le=1)] | None = None
    correct_biases: bool = False
    keep_float: tuple[str, ...] = ()
    edge_bits: Annotated[int, Field(ge=2, le=8)] | None = None
    samples: PositiveInt | None = None
    when_slower: Literal["report", "float", "fail"] = "report"

    @model_validator(mode="after")
    def _weights_alone(self) -> "Quantize":
        for name in ("weight_block", "awq"):
            if getattr(self, name) and self.activation_bits is not None:
                raise problem(
                    f"{name} is for weights alone",
                    at=name,
                    found=f"activation_bits: {self.activation_bits}",
                    expected="activation_bits: null",
                    fix=f"set activation_bits to null, or remove {name}",
                )
        return self

    def needs(self) -> frozenset[Need]:
        return frozenset({"train"})
