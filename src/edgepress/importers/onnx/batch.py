"""Try a network that was written for batch 1 with a larger batch.

Many files fix the batch at 1 although nothing in the network needs it. Training needs batches. So the importer runs the
network with a batch of 3, repairing reshape targets and constants that have the 1 built in (`new_batch=True`), and
accepts the result only if each sample's outputs are those of that sample alone.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgepress.errors import UserError
from edgepress.importers.onnx.graph import InputSpec, Network
from edgepress.importers.onnx.inputs import example
from edgepress.importers.onnx.module import OnnxModule

TRIAL = 3
MAX_TRIALS = 16
RELATIVE, ABSOLUTE = 1e-3, 1e-5


@dataclass(frozen=True)
class BatchAxes:
    """Where the batch of each input lies; `None` for an input without one."""

    inputs: tuple[int | None, ...]


def find_batch(network: Network, shapes: Sequence[tuple[int, ...]]) -> BatchAxes | str:
    """The batch axes of a network with fixed sizes, or the reason why there are none.

    Args:
        shapes: of the inputs, with the batch of 1 that the file fixes.
    """
    if any(step.operator.stochastic for step in network.body.all_steps()):
        return "its outputs are random, so samples cannot be compared"
    reason = "no input has an axis of size 1"
    for axes in itertools.islice(_candidates(shapes), MAX_TRIALS):
        found = _trial(network, shapes, axes)
        if found is None:
            return BatchAxes(axes)
        reason = found
    return reason


def _candidates(shapes: Sequence[tuple[int, ...]]) -> Iterator[tuple[int | None, ...]]:
    """Choices of one axis of size 1 per input, first axes first."""
    choices = []
    for shape in shapes:
        ones: list[int | None] = [axis for axis, size in enumerate(shape) if size == 1 and len(shape) > 1]
        choices.append(ones or [None])
    if all(options == [None] for options in choices):
        return
    yield from sorted(itertools.product(*choices), key=lambda axes: sum(axis or 0 for axis in axes))


def _trial(network: Network, shapes: Sequence[tuple[int, ...]], axes: tuple[int | None, ...]) -> str | None:
    """`None` if every sample of a batch gives what it gives alone, else what went wrong."""
    samples = [_inputs(network.inputs, shapes, seed) for seed in range(TRIAL)]
    together = tuple(
        columns[0] if axis is None else torch.cat(columns, axis)
        for columns, axis in zip(zip(*samples, strict=True), axes, strict=True)
    )
    if any(axis is None for axis in axes):
        samples = [_shared(sample, samples[0], axes) for sample in samples]
    try:
        with torch.no_grad():
            alone = [OnnxModule(network)(*sample) for sample in samples]
            batched = OnnxModule(network, new_batch=True)(*together)
    except UserError as error:
        return f"with the batch in axes {list(axes)}: {error.what}"[:300]
    return _compare(alone, batched, axes)


def _inputs(specs: Sequence[InputSpec], shapes: Sequence[tuple[int, ...]], seed: int) -> tuple[Tensor, ...]:
    return tuple(
        example(spec, shape, 100 * seed + i) for i, (spec, shape) in enumerate(zip(specs, shapes, strict=True))
    )


def _shared(sample: tuple[Tensor, ...], first: tuple[Tensor, ...], axes: tuple[int | None, ...]) -> tuple[Tensor, ...]:
    """Inputs without a batch are the same for every sample."""
    return tuple(f if axis is None else s for s, f, axis in zip(sample, first, axes, strict=True))


def _compare(alone: list[tuple[Tensor, ...]], batched: tuple[Tensor, ...], axes: tuple[int | None, ...]) -> str | None:
    for index, whole in enumerate(batched):
        parts = [outputs[index] for outputs in alone]
        if not any(_matches(parts, whole, axis) for axis in range(whole.dim())) and not _constant(parts, whole):
            return f"with the batch in axes {list(axes)} output {index} of a sample depends on the others"
    return None


def _matches(parts: list[Tensor], whole: Tensor, axis: int) -> bool:
    joined = torch.cat(parts, axis) if parts[0].dim() == whole.dim() else None
    return joined is not None and joined.shape == whole.shape and _close(joined, whole)


def _constant(parts: list[Tensor], whole: Tensor) -> bool:
    return all(part.shape == whole.shape and _close(part, whole) for part in parts)


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(
        a.double(),
        b.double(),
        rtol=RELATIVE,
        atol=ABSOLUTE * max(1.0, float(b.double().abs().max()) if b.numel() else 1.0),
        equal_nan=True,
    )
