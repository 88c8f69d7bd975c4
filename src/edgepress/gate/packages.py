"""What `.pt2` archives and C libraries say of themselves, read without torch and without a compiler."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgepress.errors import UserError

WEIGHTS = "_weights_config.json"
MANIFEST = "manifest.json"
LARGEST_TEXT = 64 << 20
"""Bytes of JSON that are read: a table of weights longer than this is no table of weights."""


def parameters_of_pt2(path: Path) -> int | None:
    """Elements of all parameters of a `torch.export` archive; `None` for one that holds compiled code alone.

    Raises:
        UserError: no zip archive, or its table of weights is broken.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            tables = [i for i in archive.infolist() if i.filename.endswith(WEIGHTS) and i.file_size <= LARGEST_TEXT]
            texts = [archive.read(table) for table in tables]
        return sum(_elements(json.loads(text)) for text in texts) if texts else None
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, AttributeError, NotImplementedError) as error:
        raise UserError(
            f"{path} is not a .pt2 archive",
            found=" ".join(str(error).split())[:120] or type(error).__name__,
            expected="what torch.export.save writes",
            fix="export it again",
        ) from error


def _elements(table: dict[str, Any]) -> int:
    total = 0
    for weight in table["config"].values():
        if weight["is_param"]:
            size = 1
            for dimension in weight["tensor_meta"]["sizes"]:
                size *= int(dimension["as_int"])
            total += size
    return total


def figures_of_c(folder: Path) -> Iterator[tuple[str, float, str]]:
    """(metric, value, unit) that the manifest of a generated library states; nothing for a library without one.

    Raises:
        UserError: a manifest of ours that cannot be read.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return
    try:
        manifest = json.loads(path.read_bytes()[:LARGEST_TEXT])
        if manifest.get("format") != "edgepress-c":
            return
        stated = {name: int(manifest[name]) for name in ("arena_bytes", "constant_bytes")}
        macs = sum(int(layer["macs"]) for layer in manifest["layers"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is broken",
            found=" ".join(str(error).split())[:120],
            expected="what edgepress export --format c writes",
            fix="export it again",
        ) from error
    yield from ((name, value, "bytes") for name, value in stated.items())
    yield "macs", macs, "count"
