"""Gradual sparsity: masks that tighten while the network trains (Zhu & Gupta 2017, "To prune, or not to prune")."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from edgepress.ir.program import Program
from edgepress.prune.sparsity import SparsityOptions, cubic_sparsity, keep_largest, keep_pattern, layer_shares, maskable

RAMP = 0.75  # of the training; the rest is for recovery at the final sparsity
TIGHTENINGS = 100  # masks are chosen anew this often on the way


class GradualMasks:
    """An objective and a constraint for `train.fit`: hands the loss on, and keeps the smallest weights at zero.

    Args:
        objective: (outputs, targets, teacher outputs) -> loss.
        program: whose dense layers are masked. options: the final sparsity; its method must be "magnitude".
    """

    def __init__(self, objective: Callable[..., Tensor], program: Program, options: SparsityOptions) -> None:
        self._objective, self._options = objective, options
        self._names = list(maskable(program, options)[0].values())
        self._progress, self._chosen_at = 0.0, -1
        self._masks: dict[str, Tensor] = {}

    def at(self, progress: float) -> None:
        """Told before each step how much of the training is done, 0 to 1."""
        self._progress = progress
        if hasattr(self._objective, "at"):
            self._objective.at(progress)

    def __call__(self, *arguments: Any) -> Tensor:
        return self._objective(*arguments)

    @torch.no_grad()
    def constrain(self, parameters: Mapping[str, Tensor]) -> None:
        """After each step: choose masks anew if it is time, and zero what they leave out."""
        stage = min(int(self._progress / RAMP * TIGHTENINGS), TIGHTENINGS)
        if stage != self._chosen_at:
            self._masks, self._chosen_at = self._choose(parameters, stage), stage
        for name, mask in self._masks.items():
            parameters[name].mul_(mask.to(parameters[name].dtype))

    def _choose(self, parameters: Mapping[str, Tensor], stage: int) -> dict[str, Tensor]:
        weights = {name: parameters[name].detach() for name in self._names}
        if self._options.pattern is not None:
            return {name: self._patterned(weight, stage) for name, weight in weights.items()}
        shares = layer_shares(weights, self._options)
        now = cubic_sparsity(stage, TIGHTENINGS, 1.0)
        return {n: keep_largest(w.abs().flatten(1), now * shares[n], whole=True).reshape(w.shape)
                for n, w in weights.items()}  # fmt: skip

    def _patterned(self, weight: Tensor, stage: int) -> Tensor:
        """From M of M to N of M, one weight at a time."""
        assert self._options.pattern is not None
        n, m = self._options.pattern
        kept = m - round(cubic_sparsity(stage, TIGHTENINGS, float(m - n)))
        return keep_pattern(weight.abs().flatten(1), (kept, m)).reshape(weight.shape)

    def masks(self, program: Program) -> dict[str, Tensor]:
        """The final masks of the trained program."""
        state = program.state()
        return self._choose({name: state[name] for name in self._names}, TIGHTENINGS)
