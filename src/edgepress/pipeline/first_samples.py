"""Samples of example inputs: the batch is not always the first axis, and some inputs have none (states, a rate)."""

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from edgepress.ir import Program


def first_samples(program: Program, inputs: Sequence[Tensor], count: int) -> list[Tensor]:
    """The first `count` samples of a batch, repeated from the start where there are fewer.

    Inputs are cut along the free size that the first free axis of all has; others are left as they are.
    """
    shapes = [node.meta["val"].shape for node in program.user_inputs()]
    free = next((str(size) for shape in shapes for size in shape if not isinstance(size, int)), None)
    found = []
    for value, shape in zip(inputs, shapes, strict=True):
        axis = next((i for i, size in enumerate(shape) if str(size) == free), None)
        found.append(value if axis is None else _taken(value, axis, count))
    return found


def first_feed(program: Program, inputs: Sequence[Tensor], count: int = 1) -> dict[str, npt.NDArray[Any]]:
    """The same as sessions take it: input name -> array."""
    values = first_samples(program, inputs, count)
    return {name: value.numpy() for name, value in zip(program.input_names, values, strict=True)}


def _taken(value: Tensor, axis: int, count: int) -> Tensor:
    return value.index_select(axis, torch.arange(count) % value.shape[axis])
