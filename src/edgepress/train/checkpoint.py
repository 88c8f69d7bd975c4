"""Checkpoints: one safetensors file each, replaced atomically, so that a kill at any moment leaves a whole one.

Numbers and text travel as JSON in the file's metadata. Nothing is pickled.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from edgepress.errors import ToolError, UserError

LAST, BEST, LOG = "last.safetensors", "best.safetensors", "log.jsonl"
METADATA_KEY = "edgepress"


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and plain data."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write beside `path`, flush to the disk, then rename over it.

    Raises:
        ToolError: the disk is full or not writable; an earlier checkpoint at `path` stays as it was.
    """
    from safetensors.torch import save

    tensors = {name: t.detach().cpu().contiguous() for name, t in _unshared(checkpoint.tensors).items()}
    content = save(tensors, {METADATA_KEY: json.dumps(checkpoint.facts, sort_keys=True)})
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise disk_error(path, error, len(content)) from error


def read(path: Path) -> Checkpoint | None:
    """The checkpoint at `path`, `None` if there is none.

    Raises:
        UserError: a file that is no checkpoint.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dictionary
            return Checkpoint(tensors, json.loads((file.metadata() or {})[METADATA_KEY]))
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is no checkpoint", found=str(error), expected="a file that training wrote",
                        fix=f"delete {path.parent} to start anew") from error  # fmt: skip


def disk_error(path: Path, error: OSError, size: int) -> ToolError:
    """What to say when a file of `size` bytes could not be written."""
    return ToolError(
        f"cannot write {path}",
        found=f"{error.strerror or error}",
        expected=f"{size / 1e6:.1f} MB of free, writable space",
        fix="free some space and run again: training resumes from the last whole checkpoint",
    )


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """safetensors refuses tensors that share memory: names tied to one weight each get a copy."""
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        result[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    return result
