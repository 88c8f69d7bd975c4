"""Tables: CSV and TSV files with a header. Text columns become one-hot columns."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgepress.data.arrays import damaged, existing, input_tensor, target_tensor
from edgepress.data.dataset import Dataset
from edgepress.errors import UserError


def csv_table(
    base: Path,
    *,
    path: str,
    target: str | None = None,
    drop: Sequence[str] = (),
    delimiter: str = "",
    encode_like: str | None = None,
    window: int = 0,
    standardize: bool = False,
) -> Dataset:
    """One sample per row: numbers as they are, text one-hot over the sorted values of its column.

    Args:
        target: column to predict; text targets become class labels, whole numbers labels, other numbers values.
        drop: columns to leave out. delimiter: "," unless given; a tab for `.tsv`.
        encode_like: another table whose columns decide categories, classes and standardization; for a separate test
            file, name the training file.
        window: of a time series, samples of this many consecutive rows (columns, window); the target is then the
            value of column `target` in the next row.
        standardize: subtract each column's mean and divide by its standard deviation.

    Raises:
        UserError: no such file, no rows, rows of uneven length, unknown columns, values never seen in `encode_like`.
    """
    file = existing(base / path)
    table = _read(file, delimiter)
    reference = _read(existing(base / encode_like), delimiter) if encode_like else table
    for column in (*drop, *([target] if target else [])):
        if column not in table or column not in reference:
            raise UserError(f"{file} has no column {column}", found=", ".join(table), expected=column,
                            fix="correct `target` or `drop`")  # fmt: skip
    names = [n for n in table if n not in drop and (n != target or window)]
    columns = [_encode(n, table[n], reference[n], file, standardize) for n in names]
    features = np.concatenate(columns, axis=1)
    values, classes = _targets(table[target], reference[target], file) if target else (None, ())
    if window:
        return _windows(features, values, window, file)
    return Dataset((input_tensor(features),), None if values is None else target_tensor(values), classes, file.name)


def _read(file: Path, delimiter: str) -> dict[str, list[str]]:
    """Column name -> cells."""
    separator = delimiter or ("\t" if file.suffix == ".tsv" else ",")
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:  # spreadsheets put a mark in front
            rows = [row for row in csv.reader(stream, delimiter=separator, skipinitialspace=True) if row]
    except (UnicodeDecodeError, csv.Error, TypeError) as error:
        raise damaged(file, error, "a table in UTF-8, with a header and one character between cells") from error
    if len(rows) < 2:
        raise UserError(f"{file} holds no rows", found=f"{len(rows)} lines", expected="a header and at least one row")
    header, *body = rows
    uneven = next((i for i, row in enumerate(body) if len(row) != len(header)), None)
    if uneven is not None:
        raise UserError(f"{file} is uneven", found=f"{len(body[uneven])} cells in row {uneven + 1}",
                        expected=f"{len(header)}, as in the header", fix="repair it or set `delimiter`")  # fmt: skip
    names = [name.strip() for name in header]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{file} has two columns called {twice!r}", found=", ".join(names), expected="a name for each",
                        fix="give them different names; a table needs a header line")  # fmt: skip
    return {name: [row[i].strip() for row in body] for i, name in enumerate(names)}


def _numbers(cells: Sequence[str]) -> np.ndarray | None:
    try:
        return np.array([float(c) for c in cells], dtype=np.float64)
    except ValueError:
        return None


def _encode(name: str, cells: list[str], reference: list[str], file: Path, standardize: bool) -> np.ndarray:
    """(rows, width) float32: width 1 for numbers, one per category for text."""
    known = _numbers(reference)
    if known is None:
        codes, categories = _codes(name, cells, reference, file)
        return np.eye(len(categories), dtype=np.float32)[codes]
    values = _numbers(cells)
    if values is None:
        raise UserError(f"column {name} of {file} should be numeric", found="text in it", expected="numbers")
    if standardize:
        values = (values - known.mean()) / (known.std() or 1.0)
    return values.astype(np.float32)[:, None]


def _codes(name: str, cells: list[str], reference: list[str], file: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    categories = tuple(sorted(set(reference)))
    index = {category: i for i, category in enumerate(categories)}
    unknown = next((c for c in cells if c not in index), None)
    if unknown is not None:
        raise UserError(f"column {name} of {file} holds a value never seen in training", found=unknown,
                        expected=", ".join(categories[:8]))  # fmt: skip
    return np.array([index[c] for c in cells], dtype=np.int64), categories


def _targets(cells: list[str], reference: list[str], file: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    known, values = _numbers(reference), _numbers(cells)
    if known is None or values is None:
        return _codes("target", cells, reference, file)
    whole = bool((known == known.round()).all() and all("." not in c for c in reference))
    return values.astype(np.int64 if whole else np.float32), ()


def _windows(features: np.ndarray, values: np.ndarray | None, window: int, file: Path) -> Dataset:
    """Sliding windows (N, columns, window); target: the value that follows each."""
    if len(features) <= window:
        raise UserError(f"{file} is shorter than a window", found=f"{len(features)} rows", expected=f"over {window}")
    views = np.lib.stride_tricks.sliding_window_view(features, window, axis=0)[:-1]
    following = None if values is None else target_tensor(values[window:, None].astype(np.float32))
    return Dataset((input_tensor(views.copy()),), following, (), file.name)
