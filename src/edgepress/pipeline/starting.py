"""What `edgepress init` finds out by looking at the data instead of asking."""

from pathlib import Path

import torch
import yaml
from torch import Tensor

from edgepress.data import open_source


def inputs_of(source: str, folder: Path) -> list[str]:
    """The inputs of a network that reads these samples, as `--input` takes them: `["image=3x32x32"]`.

    Args:
        source: a data source as a recipe holds it (YAML). folder: where its relative paths start from.

    Raises:
        UserError: data that cannot be opened.
    """
    options = yaml.safe_load(source)
    samples = open_source(options.pop("kind"), options, folder).inputs
    if len(samples) == 1:
        names = ["image" if samples[0].dim() == 4 else "x"]
    else:
        names = options.get("inputs") or [f"x{i}" for i in range(len(samples))]
    return [_described(name, part) for name, part in zip(names, samples, strict=True)]


def _described(name: str, samples: Tensor) -> str:
    sizes = "x".join(str(size) for size in samples.shape[1:]) or "1"
    return f"{name}={sizes}:int64" if samples.dtype == torch.int64 else f"{name}={sizes}"
