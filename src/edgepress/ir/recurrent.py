"""Shapes of recurrent layers, without walking through time.

torch gives `lstm`, `gru` and `rnn` no shape function of their own: tracing one runs a few dozen operators for each time
step, on symbolic sizes. A GRU over 28 steps took 5 of the 5.5 seconds of its import, and seconds again in every pass.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import SymInt, Tensor
from torch._C import DispatchKey
from torch._subclasses.fake_tensor import FakeTensor

ATEN = torch.ops.aten
GATES = {ATEN.lstm.input: 4, ATEN.gru.input: 3, ATEN.rnn_tanh.input: 1, ATEN.rnn_relu.input: 1}
KEYS = (DispatchKey.CompositeImplicitAutograd, DispatchKey.Autograd)

Shapes = tuple[Tensor, ...]


@contextmanager
def recurrent_shapes() -> Iterator[None]:
    """Inside, recurrent layers on fake tensors give their outputs' shapes at once; on real tensors nothing changes."""
    saved = {op: dict(op.py_kernels) for op in GATES}
    for op in GATES:
        for key in KEYS:
            op.py_kernels[key] = _kernel(op, saved[op][key])
        op._dispatch_cache.clear()
    try:
        yield
    finally:
        for op, kernels in saved.items():
            op.py_kernels.clear()
            op.py_kernels.update(kernels)
            op._dispatch_cache.clear()


def _kernel(op: Any, otherwise: Callable[..., Any]) -> Callable[..., Any]:
    def run(x: Tensor, state: Any, *rest: Any) -> Any:
        return shapes(op, x, state, *rest) if isinstance(x, FakeTensor) else otherwise(x, state, *rest)

    return run


def shapes(
    op: Any,
    x: Tensor,
    state: Tensor | Sequence[Tensor],
    weights: Sequence[Tensor],
    has_biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> Shapes:
    """Empty tensors shaped like the layer's outputs: (y, h_n) or (y, h_n, c_n).

    Args:
        x: (time, batch, features), or (batch, time, features) with `batch_first`.
        state: h_0, or (h_0, c_0): (layers x directions, batch, hidden).

    Raises:
        ValueError: weights that do not fit the features or the hidden size.
    """
    states = [state] if isinstance(state, Tensor) else list(state)
    directions = 2 if bidirectional else 1
    width, cell = states[0].shape[2], states[-1].shape[2]  # they differ where an LSTM projects its output
    per_cell = len(weights) // (layers * directions)
    for index in range(layers * directions):
        features = x.shape[2] if index < directions else width * directions
        _check(weights[index * per_cell], (GATES[op] * cell, features), f"input weight {index}")
        _check(weights[index * per_cell + 1], (GATES[op] * cell, width), f"hidden weight {index}")
    time, batch = (x.shape[1], x.shape[0]) if batch_first else (x.shape[0], x.shape[1])
    y = x.new_empty((time, batch, directions * width))
    return (y.transpose(0, 1) if batch_first else y, *(s.new_empty((s.shape[0], batch, s.shape[2])) for s in states))


def _check(weight: Tensor, expected: tuple[int | SymInt, int | SymInt], what: str) -> None:
    if tuple(weight.shape) != expected:
        raise ValueError(f"{what} has shape {tuple(weight.shape)}, the layer needs {expected}")
