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

    @torch.no_grad()
    def update(self, weights: Mapping[str, Tensor], step: int) -> None:
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, average in self.weights.items():
            if average.is_floating_point():
                average.lerp_(weights[name].detach(), 1 - decay)
            else:
                average.copy_(weights[name])
