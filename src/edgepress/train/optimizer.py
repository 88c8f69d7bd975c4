"""Optimizers, and their state as tensors and plain data."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from edgepress.train.options import TrainOptions

LION_BETAS = (0.9, 0.99)


class Lion(torch.optim.Optimizer):
    """Lion (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", algorithm 2): steps of the sign.

    c = b1 m + (1 - b1) g;  p <- p - lr (sign(c) + decay p);  m <- b2 m + (1 - b2) g. The paper advises a learning rate
    a third to a tenth of AdamW's, with a weight decay larger by the same factor.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group["lr"], group["weight_decay"])

    def _update(self, parameter: Tensor, lr: float, decay: float) -> None:
        state = self.state[parameter]
        momentum = state.setdefault("momentum", torch.zeros_like(parameter))
        direction = torch.lerp(parameter.grad, momentum, LION_BETAS[0]).sign_()  # type: ignore[arg-type]
        parameter.mul_(1 - lr * decay).sub_(direction, alpha=lr)
        momentum.lerp_(parameter.grad, 1 - LION_BETAS[1])


def make_optimizer(
    parameters: Mapping[str, Tensor], options: TrainOptions, paces: Mapping[str, float]
) -> torch.optim.Optimizer:
    """The optimizer over `parameters`; weight decay only on those of two or more dimensions.

    Args:
        paces: factors on the learning rate, by name, where they are not 1. See `set_learning_rate`.
    """
    kinds = {name: (options.weight_decay * (p.dim() >= 2), paces.get(name, 1.0)) for name, p in parameters.items()}
    groups = [
        {"params": [parameters[name] for name, own in kinds.items() if own == kind], "weight_decay": kind[0],
         "pace": kind[1]}
        for kind in dict.fromkeys(sorted(kinds.values(), reverse=True))
    ]  # fmt: skip
    if options.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=options.lr)
    if options.optimizer == "lion":
        return Lion(groups, lr=options.lr)
    return torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum, nesterov=options.momentum > 0)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """`lr` times the pace of each group."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["pace"]


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
