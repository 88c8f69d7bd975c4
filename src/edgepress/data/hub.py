"""Folders written by Hugging Face `datasets` (`save_to_disk`). The only file that imports it; nothing is downloaded."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.data.arrays import input_tensor, target_tensor
from edgepress.data.dataset import Dataset
from edgepress.errors import MissingTool, UserError


def hf_dataset(
    base: Path, *, path: str, inputs: str | Sequence[str], targets: str | None = "label", split: str | None = None
) -> Dataset:
    """A data set saved with `save_to_disk`; `inputs` and `targets` name numeric columns of equal shape.

    Args:
        split: which split, where the folder holds several.

    Raises:
        UserError: no such folder, split or column, or a column of uneven or non-numeric values.
        MissingTool: the library is not installed.
    """
    table = _open(base / path, split)
    names = [inputs] if isinstance(inputs, str) else list(inputs)
    for name in (*names, *([targets] if targets else [])):
        if name not in table.column_names:
            raise UserError(f"{path} has no column {name}", found=", ".join(table.column_names), expected=name)
    columns = tuple(input_tensor(_column(table, name)) for name in names)
    labels = target_tensor(_column(table, targets)) if targets else None
    names_of_classes = getattr(table.features.get(targets), "names", None) if targets else None
    return Dataset(columns, labels, tuple(names_of_classes or ()), Path(path).name)


def _open(folder: Path, split: str | None) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise MissingTool(
            "datasets", needed_for="data of kind hf_dataset", install="pip install 'edgepress[hf]'"
        ) from error
    if not folder.is_dir():
        raise UserError(f"no data set at {folder}", found="no such folder", expected="a folder of save_to_disk")
    try:
        loaded = datasets.load_from_disk(str(folder))
    except (FileNotFoundError, ValueError, OSError) as error:
        raise UserError(f"cannot read {folder}", found=str(error), expected="a folder of save_to_disk") from error
    if not isinstance(loaded, datasets.DatasetDict):
        return loaded
    if split not in loaded:
        raise UserError(f"which split of {folder}?", found=str(split), expected=", ".join(loaded), fix="set `split`")
    return loaded[split]


def _column(table: Any, name: str) -> np.ndarray:
    try:
        return np.stack([np.asarray(value) for value in table[name]])
    except ValueError as error:
        raise UserError(f"column {name} is uneven", found=str(error), expected="values of one shape") from error
