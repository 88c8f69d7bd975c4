"""The importer's own picture of a network: steps that call operators, and constants."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from edgepress.importers.onnx.entry import Operator
from edgepress.importers.onnx.values import Constant


@dataclass(frozen=True, eq=False)
class Step:
    """One node.

    Attributes:
        name: of the node, for messages. kind: operator, with its domain unless that is the default one.
        inputs, outputs: names of values; "" is an omitted one.
        attributes: plain Python values, tensors as `Constant`, graphs as `Body`.
    """

    name: str
    kind: str
    operator: Operator
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def bodies(self) -> Iterator["Body"]:
        """The graphs inside a control-flow node."""
        return (value for value in self.attributes.values() if isinstance(value, Body))


@dataclass(frozen=True, eq=False)
class Body:
    """A graph: the main one or one inside a control-flow node. Names are unique in the whole model."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    steps: tuple[Step, ...]

    def reads(self) -> Iterator[str]:
        """Every name read by its steps, its outputs and the bodies within."""
        yield from self.outputs
        for step in self.steps:
            yield from step.inputs
            for body in step.bodies():
                yield from body.reads()

    @cached_property
    def releases(self) -> tuple[tuple[str, ...], ...]:
        """For each step, the values that nothing reads after it (so that their memory is given back)."""
        last: dict[str, int] = {}
        for index, step in enumerate(self.steps):
            for name in (*step.inputs, *step.outputs, *(read for body in step.bodies() for read in body.reads())):
                last[name] = index
        keep = {"", *self.outputs}
        found: list[list[str]] = [[] for _ in self.steps]
        for name, index in last.items():
            if name not in keep:
                found[index].append(name)
        return tuple(tuple(names) for names in found)

    def all_steps(self) -> Iterator[Step]:
        """The steps, and those of the bodies within."""
        for step in self.steps:
            yield step
            for body in step.bodies():
                yield from body.all_steps()


@dataclass(frozen=True)
class InputSpec:
    """A graph input.

    Attributes:
        onnx_type: element type as in TensorProto.DataType; 0 for sequences, optionals and undeclared types.
        shape: sizes; a name or `None` for a dynamic axis; `None` if not even the rank is declared.
    """

    name: str
    onnx_type: int
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class Network:
    """A whole model.

    Attributes:
        output_types: element types of the outputs, 0 where not declared.
    """

    body: Body
    inputs: tuple[InputSpec, ...]
    output_names: tuple[str, ...]
    output_types: tuple[int, ...]
    constants: Mapping[str, Constant]
    opset: int
    notes: tuple[str, ...] = ()
