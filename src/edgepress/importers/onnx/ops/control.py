"""Control flow: resolved while tracing where the condition or the count is known.

An `If` whose condition depends on an input's values runs both branches and selects: branches have no side effects, and
unlike `torch.cond` that leaves plain layers in the graph, which can be pruned. A loop whose length depends on values
is refused.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import guard_or_false

from edgepress.importers.onnx.entry import Operator, Operators
from edgepress.importers.onnx.graph import Body
from edgepress.importers.onnx.values import MAX_NUMBERS, Constant, Unsupported, Value, is_symbolic, to_numbers

MAX_ITERATIONS = 4096
"""A loop is unrolled; one of more iterations would make an unworkable graph."""


def if_node(executor: Any, environment: Any, condition: Value, *, then_branch: Body, else_branch: Body) -> Any:
    """Run one branch; while exporting with an unknown condition, run both and choose between their outputs."""
    if isinstance(condition, Tensor) and (torch.compiler.is_exporting() or executor.both_branches):
        return _traced_if(executor, environment, condition, then_branch, else_branch)
    known = to_numbers(condition)
    branch = then_branch if known is not None and _holds(known.reshape(-1)[0]) else else_branch
    return tuple(executor.run(branch, {}, environment))


def _holds(condition: Any) -> bool:
    """Whether a condition holds; what is asked of a length that depends on values ("is it empty?") counts as no."""
    return guard_or_false(condition) if isinstance(condition, torch.SymBool) else bool(condition)


def _traced_if(executor: Any, environment: Any, condition: Tensor, then_branch: Body, else_branch: Body) -> Any:
    """`torch.where` if both branches give tensors of equal shapes, which is exact as branches have no side effects."""
    chosen, other = (
        [executor.to_tensor(value) for value in executor.run(branch, {}, environment)]
        for branch in (then_branch, else_branch)
    )
    flag = condition.reshape(())
    if not all(_same(a, b) for a, b in zip(chosen, other, strict=True)):
        raise Unsupported(
            "If depends on the values of an input, and its branches give different shapes",
            found=f"{[_shape(a) for a in chosen]} against {[_shape(b) for b in other]}",
            expected="a condition known at import",
            fix="fix the input it depends on: bind={'name': value}",
        )
    return tuple(torch.where(flag, a, b) for a, b in zip(chosen, other, strict=True))


def _same(a: Any, b: Any) -> bool:
    return isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape and a.dtype == b.dtype


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def loop(executor: Any, environment: Any, trips: Value, condition: Value, *state: Value, body: Body) -> Any:
    """Unroll: body(iteration, condition, *state) -> (condition, *state, *scanned)."""
    limit = _trips(trips)
    carried = [_counted(value) for value in state]
    alive: Value = np.asarray(True) if condition is None else condition
    collected: list[list[Value]] = [[] for _ in body.outputs[1 + len(carried) :]]
    iteration = 0
    while (limit is None or iteration < limit) and _is_alive(alive):
        if iteration >= MAX_ITERATIONS:
            raise Unsupported("a loop", found=f"over {MAX_ITERATIONS} iterations", expected="a shorter one")
        inputs = dict(zip(body.inputs, [np.asarray(iteration), alive, *carried], strict=True))
        alive, *results = executor.run(body, inputs, environment)
        carried = results[: len(carried)]
        for sink, value in zip(collected, results[len(carried) :], strict=True):
            sink.append(executor.to_tensor(value))
        iteration += 1
    return (*carried, *(_stacked(items) for items in collected))


def _counted(value: Value) -> Value:
    """Stored integers that a loop starts from as numbers: a counter is known in every iteration."""
    stored = isinstance(value, Constant) and value.tensor.numel() <= MAX_NUMBERS
    return to_numbers(value) if stored and value.tensor.dtype in (torch.int32, torch.int64, torch.bool) else value


def _trips(trips: Value) -> int | None:
    if trips is None:
        return None
    count = _known(trips, "the number of iterations")
    return int(count.reshape(-1)[0])


def _is_alive(condition: Value) -> bool:
    return bool(_known(condition, "the condition").reshape(-1)[0])


def _known(value: Value, what: str) -> Any:
    if isinstance(value, Tensor) and torch.compiler.is_exporting():
        raise _unknown_loop(what, "values computed from an input")
    numbers = to_numbers(value)
    if numbers is None or any(is_symbolic(n) for n in np.asarray(numbers).flat):
        raise _unknown_loop(what, "a dynamic size")
    return numbers


def _unknown_loop(what: str, found: str) -> Unsupported:
    return Unsupported(
        f"a loop depends on what is not known at import: {what}",
        found=found,
        expected="a constant",
        fix="fix the input or axis it depends on (bind=, shapes=), or export the model without the loop",
    )


def _stacked(items: list[Value]) -> Any:
    return torch.stack(items) if items else torch.zeros(0)


def scan(
    executor: Any,
    environment: Any,
    *inputs: Value,
    body: Body,
    num_scan_inputs: int,
    scan_input_axes: Any = None,
    scan_output_axes: Any = None,
    scan_input_directions: Any = None,
    scan_output_directions: Any = None,
) -> Any:
    """Unroll over slices: body(*state, *slices) -> (*state, *scanned) (opset 9 on)."""
    state = list(inputs[: len(inputs) - num_scan_inputs])
    sources = [executor.to_tensor(value) for value in inputs[len(state) :]]
    outputs = len(body.outputs) - len(state)
    axes = list(scan_input_axes or [0] * num_scan_inputs)
    backwards = list(scan_input_directions or [0] * num_scan_inputs)
    steps = sources[0].shape[axes[0]]
    if is_symbolic(steps) or steps > MAX_ITERATIONS:
        raise _unknown_loop("the length of the scanned axis", str(steps))
    collected: list[list[Value]] = [[] for _ in range(outputs)]
    for step in range(steps):
        slices = [
            source.select(axis, steps - 1 - step if reverse else step)
            for source, axis, reverse in zip(sources, axes, backwards, strict=True)
        ]
        results = executor.run(body, dict(zip(body.inputs, [*state, *slices], strict=True)), environment)
        state = results[: len(state)]
        for sink, value in zip(collected, results[len(state) :], strict=True):
            sink.append(executor.to_tensor(value))
    return (*state, *_scanned(collected, scan_output_axes, scan_output_directions))


def _scanned(collected: list[list[Value]], axes: Any, directions: Any) -> list[Tensor]:
    axes, directions = axes or [0] * len(collected), directions or [0] * len(collected)
    return [
        torch.stack(items[::-1] if reverse else items, axis)
        for items, axis, reverse in zip(collected, axes, directions, strict=True)
    ]


def scan_8(
    executor: Any,
    environment: Any,
    lengths: Value,
    *inputs: Value,
    body: Body,
    num_scan_inputs: int,
    directions: Any = None,
) -> Any:
    """Scan of opset 8: all values carry a batch axis in front, the scanned axis comes second."""
    if lengths is not None:
        raise Unsupported("Scan of opset 8", found="sequence lengths", expected="none")
    batch = executor.to_tensor(inputs[0]).shape[0]
    results = [
        scan(
            executor,
            environment,
            *(executor.to_tensor(value)[sample] for value in inputs),
            body=body,
            num_scan_inputs=num_scan_inputs,
            scan_input_directions=directions,
        )
        for sample in range(batch)
    ]
    return tuple(torch.stack([executor.to_tensor(value) for value in values]) for values in zip(*results, strict=True))


def sequence_map(executor: Any, environment: Any, *inputs: Value, body: Body) -> Any:
    """Run a body for each element of the first sequence; other sequences go along, tensors stay."""
    rows = []
    for position in range(len(inputs[0])):
        arguments = [value[position] if isinstance(value, list) else value for value in inputs]
        results = executor.run(body, dict(zip(body.inputs, arguments, strict=True)), environment)
        rows.append([executor.to_tensor(value) for value in results])
    return tuple([row[i] for row in rows] for i in range(len(body.outputs)))


OPERATORS: Operators = {
    "If": Operator(if_node, control=True),
    "Loop": Operator(loop, control=True),
    "Scan": {8: Operator(scan_8, control=True), 9: Operator(scan, control=True)},
    "SequenceMap": Operator(sequence_map, control=True),
}
