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
Aggregation = Literal["sum", "mean", "max", "product"]
Normalization = Literal["auto", "none", "mean", "sum", "max", "standard"]
SparsityMethod = Literal["magnitude", "wanda", "sparsegpt"]
SparsityScope = Literal["layer", "network"]

CRITERIA: tuple[str, ...] = Criterion.__args__  # type: ignore[attr-defined]
ATTENTIONS: tuple[str, ...] = Attention.__args__  # type: ignore[attr-defined]
ALLOCATIONS: tuple[str, ...] = Allocation.__args__  # type: ignore[attr-defined]
AGGREGATIONS: tuple[str, ...] = Aggregation.__args__  # type: ignore[attr-defined]
NORMALIZATIONS: tuple[str, ...] = Normalization.__args__  # type: ignore[attr-defined]
WEIGHT_CRITERIA = ("l1", "l2", "bn_scale", "fpgm", "lamp", "random")  # look at weights alone
LOSS_CRITERIA = ("surgeon", "activation_taylor", "activation_fisher", "taylor", "fisher")  # estimate a rise of the loss
MAGNITUDES = ("l1", "l2", "bn_scale", "fpgm", "wanda")  # of different layers they are no common currency
COSTS = ("macs", "params", "bytes", "channels", "activations", "latency")
"""What a budget may be on: `activations` is the peak of all values held at a time, `latency` is measured."""
