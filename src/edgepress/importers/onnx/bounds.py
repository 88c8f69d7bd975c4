"""Recognise bounds: Min, Max and Relu with single constants become one clip, and so the activation it is known as.

Exporters write relu6 as Min(Max(x, 0), 6), as Max(Min(x, 6), 0) or as Min(Relu(x), 6). Runtimes fuse a clip into the
layer before it, and compute it on integers; they do neither for Min and Max.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from edgepress.importers.onnx.entry import Operator, Operators
from edgepress.importers.onnx.graph import Step
from edgepress.importers.onnx.ops import arithmetic as on
from edgepress.importers.onnx.ops.elementwise import clip

if TYPE_CHECKING:
    from edgepress.importers.onnx.layers import Found, Workspace

KIND = "edgepress::Clip"


@dataclass(frozen=True)
class Bounds:
    """min(max(x, low), high), with axes of size 1 in front up to `rank`."""

    source: str
    low: float
    high: float
    rank: int


def clipped(x: Tensor, low: float, high: float, rank: int) -> Tensor:
    """The clip; a constant of higher rank than x gives its rank to the result."""
    y = clip(x, *(on.array(bound) if math.isfinite(bound) else None for bound in (low, high)))
    return y if x.dim() >= rank else y.reshape([1] * (rank - x.dim()) + list(x.shape))


OPERATORS: Operators = {KIND: Operator(clipped)}


def bounded(work: "Workspace", step: Step) -> "Found":
    """Min or Max with a single number, together with the bounds in front of it."""
    own = _bounds(work, step)
    if own is None or step.kind == "Relu":
        return None
    inner = work.maker(own.source, ("Min", "Max", "Relu", KIND))
    before = _bounds(work, inner) if inner is not None else None
    joined = own if before is None else _after(before, own)
    attributes = {"low": joined.low, "high": joined.high, "rank": joined.rank}
    new = Step(step.name, KIND, OPERATORS[KIND], (joined.source,), step.outputs, attributes)  # type: ignore[arg-type]
    return new, () if before is None or inner is None else (inner,)


def _bounds(work: "Workspace", step: Step) -> Bounds | None:
    if step.kind == KIND:
        return Bounds(step.inputs[0], **step.attributes)
    if step.kind == "Relu":
        return Bounds(step.inputs[0], 0.0, math.inf, 0)
    if step.kind not in ("Min", "Max") or len(step.inputs) != 2:
        return None
    for source, name in (step.inputs, step.inputs[::-1]):
        bound, tensor = work.scalar(name), work.tensor(name)
        if bound is not None and tensor is not None and tensor.is_floating_point() and math.isfinite(bound):
            low, high = (bound, math.inf) if step.kind == "Max" else (-math.inf, bound)
            return Bounds(source, low, high, tensor.dim())
    return None


def _after(first: Bounds, then: Bounds) -> Bounds:
    """First one, then the other, as one."""
    low, high = (min(max(bound, then.low), then.high) for bound in (first.low, first.high))
    return Bounds(first.source, low, high, max(first.rank, then.rank))
