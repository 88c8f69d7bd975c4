"""Sparsity learning: a loss term that drives whole units to zero before they are cut."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from edgepress.analysis.channels import ChannelGroup, ChannelGroups


def group_lasso(
    groups: ChannelGroups, weights: Mapping[str, Tensor], only: Sequence[ChannelGroup] | None = None
) -> Tensor:
    """Σ over units of √(number of weights) · ‖weights of the unit‖₂ (Wen et al. 2016, eq. 2; groups as in DepGraph).

    Args:
        weights: parameters by name; differentiable. Scales and shifts count with the matrices.
        only: the groups to drive to zero; all without it.

    Returns:
        A scalar to add to the loss, times a strength of 1e-5 to 1e-3.
    """
    chosen = groups.groups if only is None else only
    wanted = np.zeros(groups.units, bool)
    for group in chosen:
        wanted[group.first : group.first + group.size] = True
    some = next(iter(weights.values()))
    squares = torch.zeros(groups.units, dtype=some.dtype, device=some.device)
    counts = torch.zeros_like(squares)
    for name, dim in dict.fromkeys(m for group in chosen for m in group.members):
        if name in weights:
            units = groups.tensor_units(name, dim)
            mine = (units >= 0) & wanted[units]
            free = torch.from_numpy(np.flatnonzero(mine))
            slices = weights[name].movedim(dim, 0).flatten(1) if weights[name].dim() > 1 else weights[name][:, None]
            index = torch.from_numpy(units[mine])
            squares = squares.index_add(0, index, slices.square().sum(1)[free])
            counts = counts.index_add(0, index, torch.full((len(index),), float(slices.shape[1])))
    return (counts.sqrt() * (squares + 1e-12).sqrt()).sum()
