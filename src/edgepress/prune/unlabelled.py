"""Scores where nobody knows the right answers: the network's own answers, disturbed, stand in for them.

With targets f(x) + e, e normal with the spread of each output, the gradient of the squared error is -J'e: its expected
square is the Gauss-Newton matrix, which is the Fisher information of a Gaussian likelihood (Martens 2020, "New insights
and perspectives on the natural gradient method", section 8). Criteria on gradients see how far the outputs move.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from edgepress.ir.program import Program
from edgepress.prune.evidence import Batch, Loss

SMALLEST_SPREAD = 1e-6


def without_labels(program: Program, batches: Sequence[tuple[Tensor, ...]], seed: int = 0) -> tuple[list[Batch], Loss]:
    """Targets for inputs that have none, and the loss that goes with them.

    Args:
        batches: inputs. seed: of the disturbance.

    Returns:
        (inputs, targets) per batch, targets (values of all float outputs of the batch,); the mean squared error over
        these values, each output divided by its standard deviation.
    """
    with torch.no_grad():
        outputs = [_floats(program(*inputs)) for inputs in batches]
    spreads = [
        torch.cat([o.reshape(-1) for o in same]).std().clamp_min(SMALLEST_SPREAD) for same in zip(*outputs, strict=True)
    ]
    random = torch.Generator().manual_seed(seed)

    def joined(values: Any) -> Tensor:
        return torch.cat([(o / s).reshape(-1) for o, s in zip(_floats(values), spreads, strict=True)])

    def loss(values: Any, targets: Tensor) -> Tensor:
        return (joined(values) - targets).square().mean()

    clean = [joined(tuple(values)) for values in outputs]
    targets = [values + torch.randn(values.shape, generator=random) for values in clean]
    return list(zip(map(tuple, batches), targets, strict=True)), loss


def _floats(outputs: Any) -> list[Tensor]:
    flat = outputs if isinstance(outputs, tuple | list) else (outputs,)
    return [o for o in flat if o.is_floating_point()]
