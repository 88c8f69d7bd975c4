"""What names a result: digests of files, folders, plain data, and of the code that made it."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import edgepress

WITHOUT_INFLUENCE = {"report", "gate"}  # rooms that judge and show results but make none


def file_digest(path: Path) -> str:
    """sha256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digests(folder: Path) -> dict[str, str]:
    """Relative path -> sha256 of every file below `folder`, sorted.

    Raises:
        ValueError: something that is neither file nor folder: a link's content may change behind our back.
    """
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ValueError(f"{path}: a result holds plain files and folders only")
        if path.is_file():
            digests[path.relative_to(folder).as_posix()] = file_digest(path)
    return digests


def data_digest(data: object) -> str:
    """sha256 of plain data (JSON), independent of the order of keys.

    Raises:
        TypeError: something in it is no plain data. ValueError: NaN or infinity.
    """
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def code_digest() -> str:
    """sha256 of edgepress's own source where it shapes results: other code, other results."""
    root = Path(edgepress.__file__).parent
    sources = sorted(path for path in root.rglob("*.py") if path.relative_to(root).parts[0] not in WITHOUT_INFLUENCE)
    return data_digest({path.relative_to(root).as_posix(): file_digest(path) for path in sources})


def tool_versions(packages: Iterable[str]) -> Mapping[str, str | None]:
    """Installed versions, without importing anything; `None` for what is not installed."""
    return {package: _version(package) for package in packages}


@cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
