"""Sequences (Python lists of tensors) and optionals (`None` when empty)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgepress.importers.onnx.entry import Operator, Operators
from edgepress.importers.onnx.ops.shape import sizes_of
from edgepress.importers.onnx.values import Numbers


def construct(*items: Tensor) -> list[Tensor]:
    """A sequence of the inputs."""
    return list(items)


def empty(dtype: int = 1) -> list[Tensor]:
    """A sequence of nothing."""
    return []


def at(sequence: list[Tensor], position: Numbers) -> Tensor:
    """The element at a position; negative ones count from the end."""
    return sequence[int(position.reshape(-1)[0])]


def insert(sequence: list[Tensor], item: Tensor, position: Numbers | None = None) -> list[Tensor]:
    """A sequence with one more element, at the end or before a position."""
    where = len(sequence) if position is None else int(position.reshape(-1)[0])
    where = where + len(sequence) if where < 0 else where
    return [*sequence[:where], item, *sequence[where:]]


def erase(sequence: list[Tensor], position: Numbers | None = None) -> list[Tensor]:
    """A sequence without one element, the last or the one at a position."""
    where = (-1 if position is None else int(position.reshape(-1)[0])) % len(sequence)
    return [*sequence[:where], *sequence[where + 1 :]]


def length(sequence: list[Tensor]) -> Numbers:
    """How many elements."""
    return np.asarray(len(sequence))


def concat(sequence: list[Tensor], axis: int, new_axis: int = 0) -> Tensor:
    """Join the elements along an axis, or stack them along a new one."""
    return torch.stack(sequence, axis) if new_axis else torch.cat(sequence, axis)


def split(x: Tensor, sizes: Numbers | None = None, axis: int = 0, keepdims: int = 1) -> list[Tensor]:
    """Cut into a sequence: by sizes, by one size, or element by element."""
    if sizes is None:
        parts = torch.split(x, 1, dim=axis)
        return list(parts) if keepdims else [part.squeeze(axis) for part in parts]
    lengths: Any = int(sizes) if sizes.ndim == 0 else sizes_of(sizes)
    return list(torch.split(x, lengths, dim=axis))


def optional(value: Any = None, type: Any = None) -> Any:
    """The value, or an empty optional."""
    return value


def optional_has_element(value: Any = None) -> Numbers:
    """Whether an optional holds something."""
    return np.asarray(value is not None)


OPERATORS: Operators = {
    "SequenceConstruct": Operator(construct),
    "SequenceEmpty": Operator(empty),
    "SequenceAt": Operator(at, numbers=(1,)),
    "SequenceInsert": Operator(insert, numbers=(2,)),
    "SequenceErase": Operator(erase, numbers=(1,)),
    "SequenceLength": Operator(length),
    "ConcatFromSequence": Operator(concat),
    "SplitToSequence": Operator(split, numbers=(1,)),
    "Optional": Operator(optional),
    "OptionalGetElement": Operator(optional),
    "OptionalHasElement": Operator(optional_has_element),
}
