"""Import a PyTorch network: a Python factory with its weights, or a `.pt2` archive."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from edgepress.errors import UserError
from edgepress.importers import factory
from edgepress.importers.weights import load_into, read_weights
from edgepress.ir.capture import adopt, capture
from edgepress.ir.program import Program
from edgepress.ir.serde import load_archive

EXAMPLE_BATCH = 2  # torch.export specialises on a batch of 1; two keeps the dimension free


@dataclass(frozen=True)
class InputSpec:
    """One input of a network: its name, shape without batch, and dtype ("float32", "int64", ...).

    Attributes:
        high: exclusive upper bound of example values of integer inputs (token or class indices).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    high: int = 2

    def example(self, batch: int) -> torch.Tensor:
        """A tensor of the right shape, from a fixed seed: only used to trace."""
        generator = torch.Generator().manual_seed(0)
        size = (batch, *self.shape)
        dtype: torch.dtype = getattr(torch, self.dtype)
        if dtype.is_floating_point:
            return torch.randn(size, generator=generator).to(dtype)
        return torch.randint(0, self.high, size, generator=generator).to(dtype)


@dataclass(frozen=True)
class FactorySource:
    """A network given as a Python function, with its weights and inputs.

    Attributes:
        reference: see `importers.factory`. weights: safetensors or state-dict file; `None` keeps what the factory made.
        batch: fixed batch size; `None` leaves it free. base: folder that relative references start from.
    """

    reference: str
    inputs: Sequence[InputSpec]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    weights: Path | None = None
    batch: int | None = None
    base: Path = field(default_factory=Path)


def from_factory(source: FactorySource) -> Program:
    """Build, load, capture.

    Raises:
        UserError: at each door: the factory, the weights, the capture.
    """
    module = factory.call(source.reference, source.kwargs, source.base)
    if not isinstance(module, torch.nn.Module):
        raise UserError(f"{source.reference} returned no network", found=type(module).__name__,
                        expected="a torch.nn.Module")  # fmt: skip
    if source.weights is not None:
        load_into(module, read_weights(source.weights), source.weights)
    batch = source.batch or EXAMPLE_BATCH
    return capture(
        module,
        [spec.example(batch) for spec in source.inputs],
        input_names=[spec.name for spec in source.inputs],
        dynamic_batch=source.batch is None,
        note=f"imported from {source.reference}",
    )


def from_pt2(path: Path) -> Program:
    """Import an archive of `torch.export.save`.

    Raises:
        UserError: see `ir.serde.load_archive`; also when the archive was saved without example inputs.
    """
    exported = load_archive(path)
    if not exported.example_inputs:
        raise UserError(f"{path} has no example inputs", expected="example inputs saved with the program",
                        fix="export with torch.export.export(model, example_inputs)")  # fmt: skip
    return adopt(exported, note=f"imported from {path.name}")
