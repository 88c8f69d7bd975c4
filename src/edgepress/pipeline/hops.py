"""How far a network is from itself, hop by hop: program, the ONNX standard's reading of its file, each runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from edgepress.analysis.costs import total_macs
from edgepress.errors import ToolError, UserError
from edgepress.exporters.shipping import shipping_form
from edgepress.ir import Program
from edgepress.measure.divergence import TOLERANCE, Trace, first_divergence, trace_onnx, trace_program
from edgepress.measure.parity import compare_outputs
from edgepress.measure.record import Parity
from edgepress.measure.reference import Reference
from edgepress.targets import Target
from edgepress.targets.runtimes import Session

EVALUATION_BATCH = 64
PARITY_SAMPLES = 256
TRACED_SAMPLES = 4
# The reference evaluator is for correctness: depthwise convolutions take it a thousand times what they take a runtime.
REFERENCE_SAMPLES = 16
REFERENCE_SECONDS = 10.0
MOST_REFERENCE_MACS = 1_000_000_000
Array = np.ndarray


def hops(
    name: str, program: Program, onnx: Path | None, session: Session, target: Target, inputs: Sequence[torch.Tensor],
    *, classes: bool, with_reference: bool, note: Callable[[str], object],
) -> Iterator[Parity]:  # fmt: skip
    """The hops of one candidate on one target, on the same samples.

    Args:
        onnx: its ONNX file, if there is one: read by the reference, and on the target to find the layer that differs.
        inputs: one tensor (n, ...) per input; the reference takes the first few.
        classes: whether the largest entry along axis 1 is a prediction. with_reference: whether that hop is wanted.
        note: is told which hop is missing, and why.
    """
    ours, axis = run_program(program, inputs), 1 if classes else None
    named = f"{name} program"
    if onnx is not None and with_reference:
        yield from _reference_hop(named, f"{name} by the ONNX reference", program, onnx, inputs, ours, axis, note)
    theirs = run_session(session, inputs)
    there = f"{name} on {target.name}"
    parity = compare_outputs(named, there, ours, theirs, class_axis=axis)
    if onnx is not None and _differs(ours, theirs):
        feed = _feed(program, inputs)
        layer = _first_layer(program, feed, lambda: trace_onnx(onnx, target, feed))
        parity = parity.model_copy(update={"first_divergent_layer": layer})
    yield parity


def run_session(session: Session, inputs: Sequence[torch.Tensor]) -> list[Array]:
    """Outputs of a session over all samples (n, ...), batch by batch: its own batch size where that is fixed."""

    def run(chunk: Sequence[torch.Tensor]) -> list[Array]:
        feed = {name: t.numpy() for name, t in zip(session.input_names, chunk, strict=True)}
        return list(session.run(fitting(feed, session)))

    return _in_batches(run, inputs, fixed_batch(session))


def run_program(program: Program, inputs: Sequence[torch.Tensor]) -> list[Array]:
    """The same for a program: fake-quantized where it is quantized."""
    module = program.module()

    def run(chunk: Sequence[torch.Tensor]) -> list[Array]:
        outputs = module(*chunk)
        return [t.numpy() for t in (outputs if isinstance(outputs, tuple | list) else (outputs,))]

    first = program.example_inputs[0]
    with torch.no_grad():
        return _in_batches(run, inputs, None if program.dynamic_batch() or not first.dim() else int(first.shape[0]))


def _in_batches(
    run: Callable[[Sequence[torch.Tensor]], list[Array]], inputs: Sequence[torch.Tensor], fixed: int | None
) -> list[Array]:
    """Outputs over all samples; in one go where inputs do not all have their samples first (example inputs)."""
    if not _samples_first(inputs):
        return run(inputs)
    rows: list[list[Array]] = []
    for chunk in zip(*(tensor.split(fixed or EVALUATION_BATCH) for tensor in inputs), strict=True):
        full, n = _padded(chunk, fixed) if fixed else (chunk, len(chunk[0]))
        rows.append([array[:n] for array in run(full)])
    return [np.concatenate(parts) for parts in zip(*rows, strict=True)]


def _samples_first(inputs: Sequence[torch.Tensor]) -> bool:
    """Whether the first axis of all of them counts samples."""
    return len({tensor.shape[:1] for tensor in inputs}) == 1 and inputs[0].dim() > 0


def fixed_batch(session: Session) -> int | None:
    """The batch size that the artifact is made for, `None` if it takes any."""
    shape = next(iter(session.input_specs.values())).shape
    return shape[0] if shape and isinstance(shape[0], int) else None


def fitting(feed: Mapping[str, Array], session: Session) -> dict[str, Array]:
    """The arrays in the float format that the artifact takes: a 16-bit model may have 16-bit inputs."""
    return {
        name: array.astype(session.input_specs[name].dtype) if np.issubdtype(array.dtype, np.floating) else array
        for name, array in feed.items()
    }


def _reference_hop(
    first: str, second: str, program: Program, onnx: Path, inputs: Sequence[torch.Tensor], ours: list[Array],
    axis: int | None, note: Callable[[str], object],
) -> Iterator[Parity]:  # fmt: skip
    too_large = total_macs(program) > MOST_REFERENCE_MACS
    if too_large or not program.dynamic_batch():
        note(f"{second}: left out, {'too large for it' if too_large else 'its batch is fixed'}")
        return
    try:
        reference = Reference(onnx)
        some, feed, theirs = _answered(reference, program, inputs)
    except ToolError as error:  # it lacks operators that runtimes have
        note(f"{second}: left out, {error.found}")
        return
    mine = [array[some] for array in ours]
    parity = compare_outputs(first, second, mine, theirs, class_axis=axis)
    if _differs(mine, theirs):
        layer = _first_layer(program, feed, lambda: reference.trace(feed))
        parity = parity.model_copy(update={"first_divergent_layer": layer})
    yield parity


def _answered(
    reference: Reference, program: Program, inputs: Sequence[torch.Tensor]
) -> tuple[Any, dict[str, Array], list[Array]]:
    """As many samples as the reference answers in some seconds (an index), what it was fed, and its answers.

    The first sample is timed; where there is time for no other, its answer is the result.
    """
    some: Any = slice(1) if _samples_first(inputs) else ...
    feed, started = _cut(program, inputs, some), perf_counter()
    theirs = reference.run(feed)
    affordable = min(int(REFERENCE_SECONDS / max(perf_counter() - started, 1e-9)), REFERENCE_SAMPLES)
    if some is ... or affordable <= 1:
        return some, feed, theirs
    some = slice(affordable)
    feed = _cut(program, inputs, some)
    return some, feed, reference.run(feed)


def _cut(program: Program, inputs: Sequence[torch.Tensor], some: Any) -> dict[str, Array]:
    return {name: t[some].numpy() for name, t in zip(program.input_names, inputs, strict=True)}


def _differs(ours: Sequence[Array], theirs: Sequence[Array]) -> bool:
    """Whether an output is off by more than rounding in another order leaves."""
    for a, b in zip(ours, theirs, strict=True):
        span = float(np.abs(a).max()) if a.size else 0.0
        if a.size and not float(np.abs(a.astype(np.float64) - b).max()) <= TOLERANCE * span:
            return True
    return False


def _first_layer(program: Program, feed: Mapping[str, Array], trace: Callable[[], Trace]) -> str:
    """The first layer that differs, "" where no values in between can be compared.

    The program is traced in the form that ships: a convolution that has taken in its batch norm gives other values than
    the one of the same name before.
    """
    try:
        found = first_divergence(trace_program(shipping_form(program), feed), trace())
    except (ToolError, UserError):
        return ""
    return found.layer if found else ""


def _feed(program: Program, inputs: Sequence[torch.Tensor]) -> dict[str, Array]:
    size = TRACED_SAMPLES if program.dynamic_batch() else int(program.example_inputs[0].shape[0])
    whole = not _samples_first(inputs)
    chunk = inputs if whole else _padded(tuple(t[:size] for t in inputs), size)[0]
    return {name: t.numpy() for name, t in zip(program.input_names, chunk, strict=True)}


def _padded(chunk: tuple[torch.Tensor, ...], size: int) -> tuple[tuple[torch.Tensor, ...], int]:
    """The chunk filled up to `size` by repeating its last row, and how many rows are real."""
    n = len(chunk[0])
    return tuple(torch.cat([t, t[-1:].expand(size - n, *t.shape[1:])]) for t in chunk), n
