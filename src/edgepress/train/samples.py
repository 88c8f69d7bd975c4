"""What training needs of a data set; `data.Dataset` is one."""

from typing import Protocol

from torch import Tensor


class Samples(Protocol):
    """Inputs (N, ...) in call order, targets (N, ...) or `None`, and a content hash."""

    @property
    def inputs(self) -> tuple[Tensor, ...]: ...

    @property
    def targets(self) -> Tensor | None: ...

    @property
    def digest(self) -> str: ...

    def __len__(self) -> int: ...
