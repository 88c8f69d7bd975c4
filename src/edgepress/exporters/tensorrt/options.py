"""How an engine is built. Number formats are no option: they are in the graph (strong typing, explicit Q/DQ)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edgepress.errors import UserError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Profile:
    """The range of shapes of one input, and the shape that the engine is tuned for.

    Raises:
        UserError: not least <= best <= most in every dimension.
    """

    least: Shape
    best: Shape
    most: Shape

    def __post_init__(self) -> None:
        ranks = {len(self.least), len(self.best), len(self.most)}
        ordered = all(a <= b <= c for a, b, c in zip(self.least, self.best, self.most, strict=False))
        if len(ranks) != 1 or not ordered or min(self.least, default=1) < 1:
            raise UserError(
                "a profile's shapes are out of order",
                found=f"{self.least}, {self.best}, {self.most}",
                expected="as many dimensions each, 1 <= least <= best <= most",
            )


@dataclass(frozen=True)
class EngineOptions:
    """Settings of the builder.

    Attributes:
        profiles: input name -> its shapes; every input with a free dimension needs one.
        workspace_mib: memory that tactics may use while they are chosen and run.
        optimization_level: 0 (quick build) to 5 (exhaustive); TensorRT's default is 3.
        timing_cache: file of tactic timings, read if there and written back: the second build is quicker and the same.
        version_compatible: later releases of the same major version load the engine (it carries its own runtime).
        hardware: which GPUs load it: only the one it was built on, the same compute capability, or Ampere and later.
        refit: weights can be replaced later.
    """

    profiles: Mapping[str, Profile] = field(default_factory=dict)
    workspace_mib: int = 1024
    optimization_level: int = 3
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware: Literal["this", "same-compute-capability", "ampere+"] = "this"
    refit: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.optimization_level <= 5 or self.workspace_mib < 1:
            raise UserError(
                "builder settings out of range",
                found=f"optimization level {self.optimization_level}, workspace {self.workspace_mib} MiB",
                expected="level 0 to 5, at least 1 MiB",
            )
