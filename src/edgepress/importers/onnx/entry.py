"""How one ONNX operator is described to the importer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Operator:
    """One operator from some opset on.

    Attributes:
        run: `run(*inputs, **attributes) -> value or tuple of values`, on tensors. Omitted inputs are `None`; trailing
            outputs that the node does not name are dropped.
        numbers: positions of inputs that `run` needs as numbers (shapes, axes, pads), not as tensors.
        known: positions that `run` takes as numbers where they are known at import, as tensors otherwise.
        on_numbers: the same operator where every input is numbers; may return `NotImplemented`.
        weights: positions of inputs that are trainable if they are floating-point constants.
        stochastic: draws random numbers, so it is never folded and its outputs are not comparable.
        counts_outputs: `run` takes `outputs=` (how many the node names).
        control: `run` takes the executor and the enclosing environment first (`If`, `Loop`, `Scan`).
        foldable: may be computed at import where all inputs are constants.
        adapts_batch: `run` takes `new_batch=True` while a network made for batch 1 is tried with a larger batch.
        input_types: (position, attribute): `run` takes the declared ONNX type of that input as an attribute, for types
            that torch holds in a larger one.
    """

    run: Callable[..., Any]
    numbers: tuple[int, ...] = ()
    known: tuple[int, ...] = ()
    on_numbers: Callable[..., Any] | None = None
    weights: tuple[int, ...] = ()
    stochastic: bool = False
    counts_outputs: bool = False
    control: bool = False
    foldable: bool = True
    adapts_batch: bool = False
    input_types: tuple[tuple[int, str], ...] = ()


ByVersion: TypeAlias = dict[int, Operator]
"""Opset that introduced it -> operator; the newest one not above the model's opset is meant."""

Operators: TypeAlias = Mapping[str, Operator | ByVersion]


def select(entry: Operator | ByVersion, opset: int) -> Operator | None:
    """The operator meant under `opset`, or `None` if there was none yet."""
    if isinstance(entry, Operator):
        return entry
    versions = [version for version in entry if version <= opset]
    return entry[max(versions)] if versions else None
