"""Runs steps: on tensors, or on numbers where a step does shape arithmetic."""

from collections import ChainMap
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgepress.errors import UserError
from edgepress.importers.onnx.entry import Operator
from edgepress.importers.onnx.graph import Body, Step
from edgepress.importers.onnx.values import (
    MAX_NUMBERS,
    Constant,
    Numbers,
    Unsupported,
    Value,
    is_symbolic,
    numbers_tensor,
    tidy,
    to_numbers,
)

Environment = MutableMapping[str, Value]


class Executor:
    """Walks the steps of a body.

    Args:
        constants: what is known before the network runs.
        tensor_of: where a constant's tensor lies (in a module's parameters and buffers, or in the constant itself).
        both_branches: run both branches of an `If` whose condition is a tensor, as an export does.
        new_batch: set while a network with a fixed batch of 1 is tried with a larger one; see `batch.py`.
    """

    def __init__(
        self,
        constants: Mapping[str, Constant],
        tensor_of: Callable[[Constant], Tensor],
        *,
        new_batch: bool = False,
        both_branches: bool = False,
    ) -> None:
        self.constants = constants
        self.tensor_of = tensor_of
        self.new_batch = new_batch
        self.both_branches = both_branches

    def run(self, body: Body, inputs: Mapping[str, Value], outer: Environment | None = None) -> list[Value]:
        """Run a body; `outer` is the environment around a body in a control-flow node.

        Raises:
            UserError: naming the node that could not be computed.
        """
        environment: Environment = dict(inputs) if outer is None else ChainMap(dict(inputs), outer)
        for step, released in zip(body.steps, body.releases, strict=True):
            results = self.run_step(step, environment)
            environment.update((name, value) for name, value in zip(step.outputs, results, strict=False) if name)
            for name in released:
                environment.pop(name, None)
        return [self.fetch(name, environment) for name in body.outputs]

    def fetch(self, name: str, environment: Environment) -> Value:
        """The value of that name; `None` for an omitted input."""
        if not name:
            return None
        if name in environment:
            return environment[name]
        constant = self.constants.get(name)
        if constant is None:
            raise UserError(f"value {name!r} is read before it is made", found="a cyclic or damaged graph")
        return constant

    def run_step(self, step: Step, environment: Environment) -> list[Value]:
        """The outputs of one step; as many as the operator gives, which may be more than the node names.

        Raises:
            UserError: the operator refuses its inputs, or torch does.
        """
        inputs = [self.fetch(name, environment) for name in step.inputs]
        try:
            result = self.compute(step, inputs, environment)
        except UserError as error:
            raise _at(step, error) from error
        except (
            RuntimeError,
            ValueError,
            TypeError,
            IndexError,
            KeyError,
            AttributeError,  # an input that is left out and needed
            NotImplementedError,
            ArithmeticError,
        ) as error:
            raise _cannot_compute(step, inputs, error) from error
        return list(result) if isinstance(result, tuple) else [result]

    def compute(self, step: Step, inputs: list[Value], environment: Environment) -> Any:
        operator = step.operator
        attributes: dict[str, Any] = dict(step.attributes)
        if operator.counts_outputs:
            attributes["outputs"] = len(step.outputs)
        if operator.control:
            return operator.run(self, environment, *inputs, **attributes)
        if operator.on_numbers is not None and is_arithmetic(inputs):
            result = operator.on_numbers(*map(to_numbers, inputs), **attributes)
            if result is not NotImplemented:
                return _tidied(result)
        arguments = [self.argument(operator, index, value) for index, value in enumerate(inputs)]
        if operator.adapts_batch and self.new_batch:
            attributes["new_batch"] = True
        return operator.run(*arguments, **attributes)

    def argument(self, operator: Operator, index: int, value: Value) -> Value:
        """An input in the form the operator asks for."""
        if index in operator.numbers or (index in operator.known and _is_number(value)):
            return to_numbers(value)
        return self.to_tensor(value)

    def to_tensor(self, value: Value) -> Value:
        """A value with constants and numbers as tensors; sequences stay lists (of tensors)."""
        if isinstance(value, Constant):
            return self.tensor_of(value)
        if isinstance(value, np.ndarray):
            return numbers_tensor(value)
        return [self.to_tensor(item) for item in value] if isinstance(value, list) else value


def is_arithmetic(inputs: list[Value]) -> bool:
    """True if every input is a number or a small constant, so that nothing needs to be traced."""
    return any(isinstance(value, np.ndarray) for value in inputs) and all(map(_is_number, inputs))


def _is_number(value: Value) -> bool:
    if isinstance(value, Constant):
        return value.tensor.numel() <= MAX_NUMBERS and not value.tensor.dtype.is_complex
    return value is None or isinstance(value, np.ndarray)


def _tidied(result: Any) -> Any:
    if isinstance(result, tuple):
        return tuple(_tidied(item) for item in result)
    return (
        result
        if isinstance(result, Tensor)
        else tidy(np.asarray(result, dtype=object if is_symbolic(result) else None))
    )


def _at(step: Step, error: UserError) -> UserError:
    """The error with the node's name in front, once."""
    if error.what.startswith("node "):
        return error
    return type(error)(
        f"node {step.name!r} ({step.kind}): {error.what}", found=error.found, expected=error.expected, fix=error.fix
    )


def _cannot_compute(step: Step, inputs: list[Value], error: Exception) -> UserError:
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return UserError(
        f"node {step.name!r} ({step.kind}) cannot be computed: {first_line[:300]}",
        found=f"inputs {[describe(value) for value in inputs]}, attributes {sorted(step.attributes)}",
        expected="inputs that fit the operator",
        fix="check the shapes of the example inputs; if onnxruntime runs the model with them, report the node",
    )


def describe(value: Value) -> str:
    """A value in a message: type and shape, or the numbers."""
    if isinstance(value, Constant):
        return describe(value.tensor)
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{[str(s) if is_symbolic(s) else s for s in value.shape]}"
    if isinstance(value, np.ndarray):
        return f"numbers {value.tolist()!s:.80}"
    return "nothing" if value is None else f"sequence of {len(value)}"


def output_tensor(value: Value, dtype: torch.dtype | None) -> Any:
    """A graph output: a tensor of its declared type (numbers lose their width on the way)."""
    if value is None or isinstance(value, list):
        return value
    tensor = value if isinstance(value, Tensor) else numbers_tensor(np.asarray(value))
    return tensor if dtype is None or tensor.dtype == dtype else tensor.to(dtype)


__all__ = ["Environment", "Executor", "Numbers", "Unsupported", "describe", "is_arithmetic", "output_tensor"]
