"""Operators that draw random numbers: they come from torch's generator, so `torch.manual_seed` governs them."""

from typing import Any

import torch
from torch import Tensor

from edgepress.importers.onnx.entry import Operator, Operators
from edgepress.importers.onnx.values import ensure_affordable, torch_dtype


def normal(shape: Any, mean: float = 0.0, scale: float = 1.0, dtype: int = 1, seed: float = 0.0) -> Tensor:
    """Normal numbers of a fixed shape."""
    ensure_affordable(shape)
    return (torch.randn(*shape) * scale + mean).to(torch_dtype(dtype))


def normal_like(
    x: Tensor, mean: float = 0.0, scale: float = 1.0, dtype: int | None = None, seed: float = 0.0
) -> Tensor:
    """Normal numbers of the shape of x."""
    return (torch.randn(x.shape) * scale + mean).to(x.dtype if dtype is None else torch_dtype(dtype))


def uniform(shape: Any, low: float = 0.0, high: float = 1.0, dtype: int = 1, seed: float = 0.0) -> Tensor:
    """Numbers between low and high, of a fixed shape."""
    ensure_affordable(shape)
    return (torch.rand(*shape) * (high - low) + low).to(torch_dtype(dtype))


def uniform_like(x: Tensor, low: float = 0.0, high: float = 1.0, dtype: int | None = None, seed: float = 0.0) -> Tensor:
    """Numbers between low and high, of the shape of x."""
    return (torch.rand(x.shape) * (high - low) + low).to(x.dtype if dtype is None else torch_dtype(dtype))


def bernoulli(x: Tensor, dtype: int | None = None, seed: float = 0.0) -> Tensor:
    """1 with probability x, else 0."""
    return (torch.rand(x.shape) < x).to(x.dtype if dtype is None else torch_dtype(dtype))


def multinomial(x: Tensor, dtype: int = 6, sample_size: int = 1, seed: float = 0.0) -> Tensor:
    """Classes drawn from log-probabilities (N, C), by adding Gumbel noise: (N, sample_size)."""
    noise = -torch.log(-torch.log(torch.rand(x.shape[0], sample_size, x.shape[1]).clamp(1e-20, 1 - 1e-7)))
    return torch.argmax(x.unsqueeze(1) + noise, dim=-1).to(torch_dtype(dtype))


OPERATORS: Operators = {
    "RandomNormal": Operator(normal, stochastic=True),
    "RandomNormalLike": Operator(normal_like, stochastic=True),
    "RandomUniform": Operator(uniform, stochastic=True),
    "RandomUniformLike": Operator(uniform_like, stochastic=True),
    "Bernoulli": Operator(bernoulli, stochastic=True),
    "Multinomial": Operator(multinomial, stochastic=True),
}
