"""Optimizers, and their state as tensors and plain data."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from edgepress.train.options import TrainOptions


def make_optimizer(parameters: Sequence[Tensor], options: TrainOptions) -> torch.optim.Optimizer:
    """The optimizer over `parameters`; weight decay only on those of two or more dimensions."""
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if options.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=options.lr)
    return torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum, nesterov=options.momentum > 0)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def state_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """State by `parameter number/name`; entries that are not there yet are left out."""
    entries = optimizer.state_dict()["state"]
    return {
        f"{number}/{key}": value
        for number, entry in entries.items()
        for key, value in entry.items()
        if isinstance(value, Tensor)
    }


def load_state_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `state_tensors` gave."""
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        number, key = name.split("/", 1)
        state.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
