"""Image folders: one sub-folder per class. The only file that imports Pillow."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from edgepress.data.arrays import input_tensor
from edgepress.data.dataset import Dataset
from edgepress.errors import MissingTool, UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm"}
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def image_folder(
    base: Path, *, path: str, size: tuple[int, int] | list[int] | None = None, channels: int = 3
) -> Dataset:
    """Images (N, C, H, W) with values 0..255 and, where there are sub-folders, their class.

    Args:
        size: (height, width) to resize to (bilinear); needed where images differ in size.
        channels: 1 grey, 3 RGB, 4 RGBA.

    Raises:
        UserError: no folder, no images, an image that cannot be read, sizes that differ. MissingTool: no Pillow.
    """
    folder = base / path
    files = list(_image_files(folder))
    if not files:
        raise UserError(f"no images in {folder}", found="nothing readable" if folder.is_dir() else "no such folder",
                        expected="class/image files: " + ", ".join(sorted(SUFFIXES)))  # fmt: skip
    classes = sorted({f.parent.name for f in files if f.parent != folder})
    arrays = [read_image(f, size, channels) for f in files]
    odd = next((f for f, a in zip(files, arrays, strict=True) if a.shape != arrays[0].shape), None)
    if odd is not None:
        raise UserError(f"images in {folder} differ in size", found=f"{odd.name} is unlike {files[0].name}",
                        expected="one size", fix="set `size: [height, width]`")  # fmt: skip
    labels = [classes.index(f.parent.name) for f in files] if classes else None
    return Dataset(
        (input_tensor(np.stack(arrays)),), None if labels is None else torch.tensor(labels), tuple(classes), folder.name
    )


def read_image(file: Path, size: tuple[int, int] | list[int] | None, channels: int) -> np.ndarray:
    """One image as uint8 (C, H, W).

    Raises:
        UserError: an image that cannot be decoded. MissingTool: no Pillow.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingTool("Pillow", needed_for="reading images", install="pip install pillow") from error
    try:
        with Image.open(file) as opened:
            image = opened.convert(MODES[channels])
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot read the image {file}", found=str(error), expected="a complete image",
                        fix="remove or replace it") from error  # fmt: skip
    if size is not None:
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _image_files(folder: Path) -> Iterator[Path]:
    """Images in sub-folders, or in the folder itself if it has no sub-folders with any; sorted, so order is stable."""
    if not folder.is_dir():
        return
    nested = sorted(f for f in folder.glob("*/*") if f.suffix.lower() in SUFFIXES)
    yield from nested or sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES)
