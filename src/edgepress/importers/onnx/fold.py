"""Compute at import what does not depend on the inputs, and resolve `If` nodes whose condition is known."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from edgepress.errors import UserError
from edgepress.importers.onnx.executor import Executor
from edgepress.importers.onnx.graph import Body, Network, Step
from edgepress.importers.onnx.values import Constant, Unsupported, Value, ensure_affordable, numbers_tensor

MAX_GROWTH_BYTES = 64 << 20
"""A folded constant may take this much more than what it was computed from; larger ones are computed when needed."""


@contextmanager
def silent_torch() -> Iterator[None]:
    """A trial may fail: torch's error logs about it are not for the user."""
    previous = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(previous)


def fold(network: Network) -> Network:
    """Fold constants through the whole model, bodies included.

    Raises:
        UserError: a constant cannot be computed.
        Unsupported: a constant would be absurdly large.
    """
    folding = _Folding(dict(network.constants))
    body = folding.body(network.body)
    used = set(body.reads())
    constants = {name: constant for name, constant in folding.constants.items() if name in used}
    return replace(network, body=body, constants=constants)


class _Folding:
    def __init__(self, constants: dict[str, Constant]) -> None:
        self.constants = constants
        self.aliases: dict[str, str] = {}
        self.executor = Executor(constants, lambda constant: constant.tensor)

    def resolve(self, name: str) -> str:
        while name in self.aliases:
            name = self.aliases[name]
        return name

    def body(self, body: Body) -> Body:
        steps = tuple(kept for step in body.steps for kept in self.fold_step(step))
        return Body(body.inputs, tuple(self.resolve(name) for name in body.outputs), steps)

    def fold_step(self, step: Step) -> tuple[Step, ...]:
        step = replace(step, inputs=tuple(self.resolve(name) for name in step.inputs))
        if step.kind == "Identity" and step.inputs[0]:
            self.aliases[step.outputs[0]] = step.inputs[0]
            return ()
        if step.kind == "If" and step.inputs[0] in self.constants:
            return self.take_branch(step)
        if self.is_constant(step) and self.fold_constant(step):
            return ()
        folded = self.bodies_of(step)
        if step.kind == "Loop" and (still := _carried_along(folded)):
            folded = self.bodies_of(self.without_states(folded, still))  # what was a state may be a constant now
        return (folded,)

    def bodies_of(self, step: Step) -> Step:
        attributes = {k: self.body(v) if isinstance(v, Body) else v for k, v in step.attributes.items()}
        return replace(step, attributes=attributes)

    def without_states(self, step: Step, still: list[int]) -> Step:
        """A loop that reads from outside what it only handed from one iteration to the next (converters' weights)."""
        body: Body = step.attributes["body"]
        for state in still:
            self.aliases[body.inputs[2 + state]] = step.inputs[2 + state]
            self.aliases.update({step.outputs[state]: step.inputs[2 + state]} if state < len(step.outputs) else {})
        inner = Body(_left(body.inputs, still, 2), _left(body.outputs, still, 1), body.steps)
        return replace(
            step,
            inputs=_left(step.inputs, still, 2),
            outputs=_left(step.outputs, still, 0),
            attributes={**step.attributes, "body": inner},
        )

    def take_branch(self, step: Step) -> tuple[Step, ...]:
        flag = self.constants[step.inputs[0]].tensor
        if flag.numel() != 1:
            raise UserError(f"node {step.name!r} (If)", found=f"a condition of {flag.numel()} elements", expected="one")
        condition = bool(flag)
        branch = self.body(step.attributes["then_branch" if condition else "else_branch"])
        self.aliases.update(zip(step.outputs, branch.outputs, strict=False))
        return branch.steps

    def is_constant(self, step: Step) -> bool:
        operator = step.operator
        if operator.stochastic or operator.control or not operator.foldable:
            return False
        return all(not name or name in self.constants for name in step.inputs)

    def fold_constant(self, step: Step) -> bool:
        """Compute a step; False if its result is better computed when needed."""
        if not self.is_affordable(step):
            return False
        with torch.no_grad():
            results = self.executor.run_step(step, {})
        tensors = [_as_tensor(value) for value in results[: len(step.outputs)]]
        if any(tensor is None for tensor in tensors):
            return False
        for name, tensor in zip(step.outputs, tensors, strict=False):
            if name and tensor is not None:
                self.constants[name] = Constant(name, tensor)
        return True

    def is_affordable(self, step: Step) -> bool:
        """Run the step on shapes alone first: a few bytes of file may ask for terabytes."""
        taken = sum(self.constants[name].tensor.nbytes for name in step.inputs if name)
        made = sum(tensor.numel() * tensor.element_size() for tensor in self.fake_results(step))
        return made <= taken + MAX_GROWTH_BYTES

    def fake_results(self, step: Step) -> list[Tensor]:
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        fakes: dict[str, Value] = {}
        for index, name in enumerate(step.inputs):
            if name and index not in step.operator.numbers:
                fakes[name] = mode.from_tensor(self.constants[name].tensor)
        try:
            with silent_torch(), mode:
                results = Executor(self.constants, lambda c: mode.from_tensor(c.tensor)).run_step(step, fakes)
        except Unsupported:
            raise
        except (UserError, RuntimeError):  # depends on the data: its result is as small as its inputs
            return []
        made = [value for value in results if isinstance(value, Tensor)]
        for tensor in made:
            ensure_affordable(tensor.shape, tensor.dtype)
        return made


def _carried_along(loop: Step) -> list[int]:
    """The states of a loop that no iteration changes."""
    body: Body = loop.attributes["body"]
    states = range(min(len(body.inputs), len(loop.inputs)) - 2)
    return [i for i in states if 1 + i < len(body.outputs) and body.outputs[1 + i] == body.inputs[2 + i]]


def _left(names: tuple[str, ...], gone: list[int], first: int) -> tuple[str, ...]:
    """Names without those of the states; `first` is the place of the first state."""
    places = {first + state for state in gone}
    return tuple(name for place, name in enumerate(names) if place not in places)


def _as_tensor(value: Value) -> Tensor | None:
    if isinstance(value, np.ndarray):
        return numbers_tensor(value)
    return value.detach().clone(memory_format=torch.contiguous_format) if isinstance(value, Tensor) else None
