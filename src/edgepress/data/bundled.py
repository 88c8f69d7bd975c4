"""The one real data set that needs no download: scikit-learn's digits (the UCI test set of 1998, 13 writers)."""

from pathlib import Path

import numpy as np

from edgepress.data.arrays import input_tensor, target_tensor
from edgepress.data.dataset import Dataset
from edgepress.errors import MissingTool, UserError

SPLITS = ("train", "test", "all")
HIGHEST = 16.0  # pixels count 0 to 16 set bits of a 4x4 block


def digits(base: Path, *, split: str = "train") -> Dataset:
    """Images (N, 1, 8, 8) in 0..1 and labels 0..9.

    Every third image (index 2, 5, 8, ...) is the test set: 599 images; the other 1,198 are for training. The files
    name no writers, so writers are on both sides: the accuracy is that of known handwriting.

    Args:
        split: "train", "test" or "all".

    Raises:
        UserError: another split. MissingTool: scikit-learn is not installed.
    """
    if split not in SPLITS:
        raise UserError("unknown split of the digits", found=split, expected=", ".join(SPLITS))
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingTool("scikit-learn", needed_for="the digits data set",
                          install="pip install 'edgepress[datasets]'") from error  # fmt: skip
    bunch = load_digits()
    rows = rows_of(split, len(bunch.target))
    images = (bunch.images[rows, None] / HIGHEST).astype(np.float32)
    return Dataset(
        (input_tensor(images),), target_tensor(bunch.target[rows]), tuple(map(str, range(10))), f"digits ({split})"
    )


def rows_of(split: str, n: int) -> np.ndarray:
    """Indices of the images of a split."""
    every = np.arange(n)
    held = every % 3 == 2
    return {"train": every[~held], "test": every[held], "all": every}[split]
