"""Any int8 -> int8 function as 256 entries, computed once at export in double precision."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepress.exporters.c.graph import Tensor

Reals = npt.NDArray[np.floating[Any]]


def _sigmoid(x: Reals) -> Reals:
    return 1.0 / (1.0 + np.exp(-x))


def _hard_sigmoid(x: Reals) -> Reals:
    return np.clip(x / 6.0 + 0.5, 0.0, 1.0)


def _erf(x: Reals) -> Reals:
    from scipy.special import erf

    return np.asarray(erf(x), np.float64)


FUNCTIONS: dict[str, Callable[[Reals], Reals]] = {
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0.0),
    "relu6": lambda x: np.clip(x, 0.0, 6.0),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": lambda x: x * _hard_sigmoid(x),
    "silu": lambda x: x * _sigmoid(x),
    "gelu": lambda x: 0.5 * x * (1.0 + _erf(x / np.sqrt(2.0))),
    "abs": np.abs,
    "negate": np.negative,
    "exp": np.exp,
    "square": np.square,
    "sqrt": lambda x: np.sqrt(np.maximum(x, 0.0)),
    "erf": _erf,
    "log": lambda x: np.log(np.maximum(x, 1e-30)),
    "reciprocal": lambda x: 1.0 / np.where(x == 0, 1e-30, x),
    "mish": lambda x: x * np.tanh(np.logaddexp(x, 0.0)),
    "sin": np.sin,
    "cos": np.cos,
    "softplus": lambda x: np.logaddexp(x, 0.0),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0.0))),
}


def lookup_table(function: str | Callable[[Reals], Reals], x: Tensor, y: Tensor) -> tuple[int, ...]:
    """y's integer for each of the 256 integers of x, rounded half to even, saturated."""
    apply = FUNCTIONS[function] if isinstance(function, str) else function
    reals = (np.arange(-128, 128) - x.zero_point) * float(x.scale[0])
    codes = np.rint(apply(reals) / float(y.scale[0])) + y.zero_point
    return tuple(int(code) for code in np.clip(codes, -128, 127))


def codes(reals: Reals, scale: float, zero: int) -> Reals:
    """int8 values of real numbers, rounded half to even, saturated; what is no number becomes the zero point."""
    whole = np.nan_to_num(np.rint(reals / scale), nan=0.0, posinf=1e6, neginf=-1e6) + zero
    return np.clip(whole, -128, 127)
