"""Files and folders that are either whole or not there, after a crash at any moment.

The order is always: write under another name, flush to the disk, rename, flush the folder that holds the name.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgepress.errors import EdgepressError, ToolError, UserError

TEMPORARY = ".tmp-"

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}
_ALMOST_NOTHING = 64 * 1024  # bytes free; libraries that write for us tell of a full disk in words of their own


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content` at once."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    with disk_errors(path):
        try:
            temporary.write_bytes(content)
            sync(temporary)
            temporary.replace(path)
            sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """`sync` every file and folder below `folder`, and itself last."""
    for below in sorted(folder.rglob("*")):
        sync(below)
    sync(folder)


def discard(path: Path) -> None:
    """Remove a file or a whole folder; what cannot be removed stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def disk_errors(place: Path) -> Iterator[None]:
    """Turn what the disk refuses inside the block into an error that says so.

    Raises:
        ToolError: the disk is full or broken. UserError: `place` may not be written.
    """
    try:
        yield
    except EdgepressError:
        raise
    except OSError as error:
        if (known := _explained(error, place)) is None:
            raise
        raise known from error
    except Exception as error:
        if _free_bytes(place) >= _ALMOST_NOTHING:
            raise
        raise _disk_full(place, str(error).partition("\n")[0]) from error


def _explained(error: OSError, place: Path) -> EdgepressError | None:
    reason = error.strerror or str(error)
    if error.errno in _NO_SPACE:
        return _disk_full(place, reason)
    if error.errno == errno.EIO:
        return ToolError(f"{place}: the disk failed", found=reason, expected="a working disk", fix="check the disk")
    if error.errno in _NOT_WRITABLE and _is_below(error, place):
        return not_writable(place, error)
    return None


def not_writable(place: Path, error: OSError) -> UserError:
    """The error for an output folder that cannot be used, whatever the reason."""
    reason = error.strerror or str(error)
    fix = "choose another --out, or change its permissions"
    return UserError(f"{place} cannot be written", found=reason, expected="a writable folder", fix=fix)


def _is_below(error: OSError, place: Path) -> bool:
    """Is it our folder that was refused, and not some file that a step wanted to read?"""
    named = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else place
    named = named.absolute()
    return named.is_relative_to(place.absolute()) or place.absolute().is_relative_to(named)


def _disk_full(place: Path, reason: str) -> ToolError:
    free = f"{_free_bytes(place) / 2**20:.1f} MiB free"
    fix = "free some space and run again: finished steps are kept"
    return ToolError(
        f"{place} cannot be written: the disk is full", found=f"{reason}, {free}", expected="space", fix=fix
    )


def _free_bytes(place: Path) -> int:
    folder = next(parent for parent in (place, *place.absolute().parents) if parent.is_dir())
    return shutil.disk_usage(folder).free
