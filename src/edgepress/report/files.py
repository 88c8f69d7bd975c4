"""Files that are either whole or not there."""

from pathlib import Path

from edgepress.errors import ToolError


def write_text(path: Path, text: str) -> Path:
    """Write a file atomically, making its folder.

    Raises:
        ToolError: the disk is full, or the place cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        return partial.replace(path)
    except OSError as error:
        raise ToolError(f"{path} cannot be written", found=error.strerror or str(error)) from error
