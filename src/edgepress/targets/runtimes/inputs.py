"""What an artifact takes, and the check that it is given that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edgepress.errors import UserError

Array = npt.NDArray[np.generic]


class InputSpec(NamedTuple):
    """Shape (a name or `None` where any size goes) and numpy type name of one input."""

    shape: Sequence[int | str | None]
    dtype: str


class Described:
    """What every session says of its artifact; a session sets the three fields when it opens."""

    _specs: Mapping[str, InputSpec]
    _output_names: tuple[str, ...]
    _description: str

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(self._specs)

    @property
    def input_specs(self) -> Mapping[str, InputSpec]:
        return self._specs

    @property
    def output_names(self) -> tuple[str, ...]:
        return self._output_names

    def describe(self) -> str:
        return self._description


def made_up_inputs(specs: Mapping[str, InputSpec], *, batch: int = 1, seed: int = 0) -> dict[str, Array]:
    """Inputs that fit: normal noise, integers of 0 and 1 (valid as indices and masks), `batch` where a size is free."""
    rng = np.random.default_rng(seed)
    shapes = {name: [size if isinstance(size, int) else batch for size in spec.shape] for name, spec in specs.items()}
    return {name: _noise(rng, shapes[name], np.dtype(spec.dtype)) for name, spec in specs.items()}


def _noise(rng: np.random.Generator, shape: Sequence[int], dtype: np.dtype[np.generic]) -> Array:
    if np.issubdtype(dtype, np.floating):
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(0, 2, size=shape).astype(dtype)


def check_inputs(inputs: Mapping[str, Array], specs: Mapping[str, InputSpec]) -> None:
    """Raise UserError unless `inputs` fits `specs` in names, types and shapes."""
    if set(inputs) != set(specs):
        raise UserError(
            "inputs do not fit the artifact",
            found=", ".join(sorted(inputs)) or "none",
            expected=", ".join(sorted(specs)),
        )
    for name, spec in specs.items():
        array = inputs[name]
        if array.dtype.name != spec.dtype or not _fits(array.shape, spec.shape):
            raise UserError(
                f"input {name!r} does not fit the artifact",
                found=f"{array.dtype.name} {_text(array.shape)}",
                expected=f"{spec.dtype} {_text(spec.shape)}",
            )


def _fits(shape: tuple[int, ...], allowed: Sequence[int | str | None]) -> bool:
    pairs = zip(shape, allowed, strict=False)
    return len(shape) == len(allowed) and all(not isinstance(want, int) or have == want for have, want in pairs)


def _text(shape: Sequence[int | str | None]) -> str:
    return "[" + ", ".join("any" if size is None else str(size) for size in shape) + "]"
