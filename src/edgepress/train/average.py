"""Exponential moving average of weights (Polyak & Juditsky 1992; with the warm-up that TensorFlow documents)."""

from collections.abc import Mapping

import torch
from torch import Tensor


class Average:
    """avg <- d avg + (1 - d) weights, with d = min(decay, (1 + t) / (10 + t)) after t steps.

    Tensors that are not floating point are copied.
    """

    def __init__(self, weights: Mapping[str, Tensor], decay: float) -> None:
        self.weights = {name: t.detach().clone() for name, t in weights.items()}
        self._decay = decay
        self._smooth = [name for name, t in self.weights.items() if t.is_floating_point()]
        self._copied = [name for name, t in self.weights.items() if not t.is_floating_point()]

    @torch.no_grad()
    def update(self, weights: Mapping[str, Tensor], step: int) -> None:
        """Take in the weights after step number `step`."""
        decay = min(self._decay, (1 + step) / (10 + step))
        averages = [self.weights[name] for name in self._smooth]
        torch._foreach_lerp_(averages, [weights[name].detach() for name in self._smooth], 1 - decay)
        for name in self._copied:
            self.weights[name].copy_(weights[name])
