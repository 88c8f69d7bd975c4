"""How much each weight or channel matters: one pure function per paper. Larger is more important.

Weight criteria give one value per weight; `prune.evidence` adds them up over all that a unit removes. Channel criteria
give one value per channel.
"""

import torch
from torch import Tensor


def l1(weight: Tensor) -> Tensor:
    """|w| (Li et al. 2017, "Pruning filters for efficient convnets")."""
    return weight.abs()


def l2(weight: Tensor) -> Tensor:
    """w²: sums to the squared norm of what a unit removes (Han et al. 2015, by groups as in Wen et al. 2016)."""
    return weight.square()


def taylor(weight: Tensor, gradient: Tensor) -> Tensor:
    """|w · ∂L/∂w| (Molchanov et al. 2019, "Importance estimation", eq. 8 before squaring)."""
    return (weight * gradient).abs()


def fisher(weight: Tensor, squared_gradient: Tensor) -> Tensor:
    """½ w² · E[(∂L/∂w)²]: optimal brain damage (LeCun et al. 1990) with the empirical Fisher as the Hessian."""
    return 0.5 * weight.square() * squared_gradient


def lamp(weight: Tensor) -> Tensor:
    """w² over the sum of all squares not smaller in the tensor (Lee et al. 2021, "Layer-adaptive sparsity", eq. 4)."""
    squares = weight.square().reshape(-1)
    ascending, order = squares.sort()
    remaining = ascending.flip(0).cumsum(0).flip(0)
    return torch.empty_like(squares).scatter_(0, order, ascending / remaining).reshape(weight.shape)


def fpgm(weight: Tensor, dim: int) -> Tensor:
    """Sum of distances to all other filters, (channels,) (He et al. 2019, "Pruning via geometric median", eq. 4).

    Args:
        dim: the dimension of `weight` that holds the channels.
    """
    filters = weight.movedim(dim, 0).flatten(1)
    return torch.cdist(filters[None], filters[None])[0].sum(1)


def wanda(weight: Tensor, input_norm: Tensor, dim: int) -> Tensor:
    """|w| · ‖x‖₂ per weight (Sun et al. 2024, "A simple and effective pruning approach for LLMs", eq. 1).

    Args:
        input_norm: (inputs,) norm of each input channel over the calibration data. dim: input dimension of `weight`.
    """
    shape = [-1 if d == dim else 1 for d in range(weight.dim())]
    return weight.abs() * input_norm.reshape(shape)


def activation_taylor(effects: Tensor) -> Tensor:
    """Mean absolute first-order change of the loss when a channel is zeroed (Molchanov et al. 2017, eq. 8).

    Args:
        effects: (examples, channels), Σ over positions of a · ∂L/∂a.
    """
    return effects.abs().mean(0)


def activation_fisher(effects: Tensor) -> Tensor:
    """½ E[(Σ a · ∂L/∂a)²]: second-order change of the loss (Theis et al. 2018, "Faster gaze prediction", eq. 6)."""
    return 0.5 * effects.square().mean(0)
