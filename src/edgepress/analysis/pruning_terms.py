"""The words that pruning is asked for with: one list for the recipe and for the library. Imports no torch."""

from typing import Literal

Criterion = Literal[
    "surgeon",
    "activation_taylor",
    "activation_fisher",
    "taylor",
    "fisher",
    "l1",
    "l2",
    "bn_scale",
    "fpgm",
    "lamp",
    "wanda",
    "random",
]
Allocation = Literal["global", "uniform", "sensitivity"]
Attention = Literal["heads", "width"]
SparsityMethod = Literal["magnitude", "wanda", "sparsegpt"]
SparsityScope = Literal["layer", "network"]

CRITERIA: tuple[str, ...] = Criterion.__args__  # type: ignore[attr-defined]
ATTENTIONS: tuple[str, ...] = Attention.__args__  # type: ignore[attr-defined]
ALLOCATIONS: tuple[str, ...] = Allocation.__args__  # type: ignore[attr-defined]
WEIGHT_CRITERIA = ("l1", "l2", "bn_scale", "fpgm", "lamp", "random")  # look at weights alone
COSTS = ("macs", "params", "bytes", "channels", "activations", "latency")
"""What a budget may be on: `activations` is the peak of all values held at a time, `latency` is measured."""
