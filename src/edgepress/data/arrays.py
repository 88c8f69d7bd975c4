"""Sources that hold arrays already: npz, idx (MNIST files), and a user's own function."""

import gzip
import inspect
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgepress.data.dataset import Dataset
from edgepress.errors import UserError

IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def npz(
    base: Path,
    *,
    path: str,
    inputs: str | Sequence[str] = "images",
    targets: str | None = "labels",
    classes: Sequence[str] = (),
    slices: Sequence[str] = (),
) -> Dataset:
    """A NumPy archive. `inputs`, `targets` and `slices` name its arrays; pickled objects are refused.

    Raises:
        UserError: no such file, not an archive, a named array that it does not hold.
    """
    file = existing(base / path)
    names = [inputs] if isinstance(inputs, str) else list(inputs)
    try:
        with np.load(file, allow_pickle=False) as archive:
            wanted = [*names, *([targets] if targets else []), *slices]
            missing = [name for name in wanted if name not in archive.files]
            if missing:
                raise UserError(f"{file} has no array {missing[0]}", found=", ".join(archive.files) or "nothing",
                                expected=missing[0], fix="set `inputs` and `targets` to its arrays")  # fmt: skip
            arrays = {name: archive[name] for name in wanted}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise damaged(file, error, "a NumPy .npz archive of plain arrays") from error
    return Dataset(
        tuple(input_tensor(arrays[name]) for name in names),
        target_tensor(arrays[targets]) if targets else None,
        tuple(classes),
        file.name,
        {name: tuple(map(str, arrays[name].tolist())) for name in slices},
    )


def idx(base: Path, *, images: str, labels: str | None = None, classes: Sequence[str] = ()) -> Dataset:
    """IDX files, plain or gzipped; (N, H, W) images get a channel dimension: (N, 1, H, W).

    Raises:
        UserError: no such file, or a file whose header and length disagree.
    """
    file = existing(base / images)
    values = _read_idx(file)
    values = values[:, None] if values.ndim == 3 else values
    targets = None if labels is None else target_tensor(_read_idx(existing(base / labels)))
    return Dataset((input_tensor(values),), targets, tuple(classes), file.name)


def from_factory(maker: Callable[..., Any] | None, options: Mapping[str, Any]) -> Dataset:
    """Call a user's function that returns a `Dataset`, inputs alone, or (inputs, targets).

    Inputs are one array or tensor, or a list of them.

    Raises:
        UserError: no function, it failed, or it returned something else.
    """
    if maker is None:
        raise UserError("data of kind factory needs a function", expected="file.py:function",
                        fix="set `factory` under `data`")  # fmt: skip
    name = getattr(maker, "__name__", "the data factory")
    try:
        made = maker(**options)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{name} failed{_place_of(maker)}", found=f"{type(error).__name__}: {error}",
                        expected="(inputs, targets)", fix="call it in a Python shell") from error  # fmt: skip
    return made if isinstance(made, Dataset) else _from_arrays(made, name)


def _place_of(maker: Callable[..., object]) -> str:
    """Where a user's function is written, if Python knows."""
    code = getattr(inspect.unwrap(maker), "__code__", None)
    return f" ({code.co_filename}, line {code.co_firstlineno})" if code else ""


def existing(path: Path) -> Path:
    """`path`, if there is a file.

    Raises:
        UserError: there is none.
    """
    if not path.is_file():
        raise UserError(f"no data at {path}", found="no such file", expected="a file", fix="check the path")
    return path


def damaged(path: Path, error: Exception, expected: str) -> UserError:
    """The error for a file that cannot be read as what it should be."""
    return UserError(f"cannot read {path}", found=f"{type(error).__name__}: {error}", expected=expected,
                     fix="restore the file, or correct `kind`")  # fmt: skip


def input_tensor(array: np.ndarray | Tensor) -> Tensor:
    """Values as networks take them: float32, or int64 for 32- and 64-bit integers (tokens, indices)."""
    tensor = array if isinstance(array, Tensor) else torch.from_numpy(_native(array))
    wide_integer = tensor.dtype in (torch.int32, torch.int64)
    return tensor.to(torch.int64 if wide_integer else torch.float32).contiguous()


def target_tensor(array: np.ndarray | Tensor) -> Tensor:
    """Labels as int64, values as float32."""
    tensor = array if isinstance(array, Tensor) else torch.from_numpy(_native(array))
    return tensor.to(torch.float32 if tensor.is_floating_point() else torch.int64).contiguous()


def _native(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "biuf":
        raise UserError("the data are not numbers", found=f"dtype {array.dtype}", expected="numeric arrays",
                        fix="encode them as numbers first")  # fmt: skip
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))


def _read_idx(path: Path) -> np.ndarray:
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zero, code, rank = struct.unpack_from(">HBB", raw)
        shape = struct.unpack_from(f">{rank}I", raw, 4)
    except (OSError, EOFError, struct.error) as error:
        raise damaged(path, error, "an IDX file") from error
    dtype = np.dtype(IDX_TYPES.get(code, ">u1"))
    offset = 4 + 4 * rank
    if zero != 0 or code not in IDX_TYPES or len(raw) - offset != prod(shape) * dtype.itemsize:
        raise UserError(f"{path} is no IDX file", found=f"type code {code}, shape {shape}, {len(raw)} bytes",
                        expected="a header that fits the length", fix="fetch the file again")  # fmt: skip
    return np.frombuffer(raw, dtype, offset=offset).reshape(shape).copy()


def _from_arrays(made: Any, name: str) -> Dataset:
    inputs, targets = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    parts = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    if not parts or not all(
        isinstance(p, np.ndarray | Tensor) for p in (*parts, *([] if targets is None else [targets]))
    ):
        raise UserError(f"{name} returned no data", found=type(made).__name__,
                        expected="inputs, or (inputs, targets), as arrays or tensors",
                        fix="return NumPy arrays or tensors")  # fmt: skip
    return Dataset(
        tuple(input_tensor(p) for p in parts),
        None if targets is None else target_tensor(targets),
        (),
        f"factory {name}",
    )
