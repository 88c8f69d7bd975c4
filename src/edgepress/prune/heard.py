"""What of a value the network goes on to read: a rectifier behind it hears nothing below zero."""

from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from edgepress.analysis.coupling import arguments

aten = torch.ops.aten
RELU = (aten.relu.default, aten.relu_.default)
RELU6 = (aten.relu6.default, aten.relu6_.default)
CLAMPS: dict[Any, tuple[str, str]] = {
    aten.hardtanh.default: ("min_val", "max_val"),
    aten.hardtanh_.default: ("min_val", "max_val"),
    aten.clamp.default: ("min", "max"),
    aten.clamp_.default: ("min", "max"),
}


@dataclass(frozen=True)
class Range:
    """What lies outside is read as the nearest limit."""

    low: float
    high: float

    def nearest(self, goal: Tensor, now: Tensor) -> Tensor:
        """Of all values that are read like `goal`, the ones nearest to `now`; `goal` itself inside the range."""
        below = torch.where(goal <= self.low, now.clamp(max=self.low), goal)
        return torch.where(goal >= self.high, now.clamp(min=self.high), below)


def range_behind(node: Node) -> Range | None:
    """The range in which a node's value is read, or None if some reader hears all of it."""
    found = {_heard(reader) for reader in node.users}
    return found.pop() if len(found) == 1 else None


def _heard(reader: Node) -> Range | None:
    if reader.target in RELU:
        return Range(0.0, inf)
    if reader.target in RELU6:
        return Range(0.0, 6.0)
    names = CLAMPS.get(reader.target)
    if names is None:
        return None
    low, high = (arguments(reader)[name] for name in names)
    return Range(-inf if low is None else float(low), inf if high is None else float(high))
