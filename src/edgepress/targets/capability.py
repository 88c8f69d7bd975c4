"""What a target can compute on integers: capability tables, read from YAML. Needs no torch."""

import platform
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgepress.errors import UserError

FOLDER = Path(__file__).parent / "capabilities"
LOCAL = "onnxruntime-local"
Role = Literal["compute", "follow", "same_scale", "stored"]


class Table(BaseModel):
    """Base of the records of a capability table: frozen and strict."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Format(Table):
    """A format of the numbers that are computed on: integers, or float8.

    Attributes:
        dtype: storage type. bits: width of the values. symmetric: whether zero is the integer 0.
        granularity: one scale per tensor, or per output channel.
        reduced_range: one bit less than stored, for multiply-add instructions that saturate at 16 bits.
        power_of_two: scales are powers of two (shifts instead of multiplications).
    """

    dtype: Literal["int8", "uint8", "float8e4m3fn"]
    bits: int = 8
    symmetric: bool = False
    granularity: Literal["tensor", "channel"] = "tensor"
    reduced_range: bool = False
    power_of_two: bool = False


class Rule(Table):
    """How a group of operators is quantized.

    Attributes:
        ops: operators by printed name (`aten.conv2d`).
        role: `compute` is worth quantizing its inputs for; `follow` is quantized when its inputs are integers already;
            `same_scale` moves integers without changing them, so that input and output share a scale; `stored` keeps
            its table as integers and hands out floats.
        output: whether the operator is integer only if its output is quantized too, or can also hand out float.
        weight: format of the weight where it differs from the table's.
        fuses: operators that the runtime fuses into this one when they are its only reader.
        fixed_output: scale and zero point of an output whose range is known (sigmoid, softmax).
        any_form: constants as operands, any padding value and any axes are fine too.
    """

    ops: tuple[str, ...]
    role: Role
    output: Literal["required", "optional"] = "required"
    weight: Format | None = None
    fuses: tuple[str, ...] = ()
    fixed_output: tuple[float, int] | None = None
    any_form: bool = False


class Capability(Table):
    """What a runtime on a device computes on integers, and how.

    Attributes:
        name: as in recipes. runtime: which runtime it describes. source: where the facts come from.
        activation, weight: default formats. bias: `int32` on the accumulator's grid, or float.
        rules: quantized operators. dynamic_ops: operators that it quantizes with every input (see
            `passes.mark_dynamic`). float_ops: operator -> why it stays float.
        all_integer: a network arrives and leaves as integers: any operator may start on its inputs, and end it.
        tables: functions of one value are followed as a whole, whatever they are made of: no step of them is rounded.
        saturates_16_bit: uint8 x int8 products are added in pairs in 16 bits and may saturate (x86 without VNNI).
    """

    name: str
    runtime: str
    source: str = ""
    activation: Format
    weight: Format
    bias: Literal["int32", "float"] = "int32"
    rules: tuple[Rule, ...]
    dynamic_ops: tuple[str, ...] = ()
    float_ops: dict[str, str] = Field(default_factory=dict)
    saturates_16_bit: bool = False
    all_integer: bool = False
    tables: bool = False

    def rule(self, op: str) -> Rule | None:
        """The rule for an operator, or `None` if it stays float."""
        return next((rule for rule in self.rules if op in rule.ops), None)

    def why_float(self, op: str) -> str:
        """The reason an operator without a rule stays float."""
        return self.float_ops.get(op, f"{self.runtime} has no integer kernel for {op}")


def capability_names() -> list[str]:
    """Names of the tables that come with edgepress."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def local_table(machine: str = platform.machine(), cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The table of onnxruntime on this very machine.

    Args:
        machine: architecture as the platform names it. cpuinfo: where the features of the CPU are listed.
    """
    if machine.lower() in ("arm64", "aarch64"):
        return "onnxruntime-arm64"
    try:
        vnni = "vnni" in cpuinfo.read_text()
    except OSError:
        return "onnxruntime-x86-avx2"  # nothing known: the table that holds on every x86
    return "onnxruntime-x86" if vnni else "onnxruntime-x86-avx2"


@cache
def load_capability(name: str) -> Capability:
    """The table of that name, or the one in the YAML file of that path; `LOCAL` is this machine's.

    Raises:
        UserError: no such table, or a file that does not fit the schema.
    """
    name = local_table() if name == LOCAL else name
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"no capability table {name!r}", found="no such table",
                        expected="one of " + ", ".join(capability_names()),
                        fix="name one of these, or give the path of a YAML file")  # fmt: skip
    return parse_capability(yaml.safe_load(path.read_text()), str(path))


def parse_capability(content: Any, place: str) -> Capability:
    """A table from plain data.

    Raises:
        UserError: naming the field that does not fit.
    """
    try:
        return Capability.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in _path(first["loc"]))
        raise UserError(f"{place}: {field}", found=str(first.get("input"))[:80], expected=first["msg"],
                        fix="compare with the tables under edgepress/targets/capabilities") from error  # fmt: skip


def _path(loc: Sequence[int | str]) -> Sequence[int | str]:
    return loc or ("(top)",)
