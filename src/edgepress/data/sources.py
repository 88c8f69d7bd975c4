"""The door to all data: `open_source("npz", {"path": "train.npz"}, base)`.

Each kind is one function whose keyword arguments are the options of that kind. Options that every kind takes:
`scale`, `mean`, `std`, `layout` (see `data.preprocess`), and the choice of samples: `hold_out` (fraction) with `part`
("rest" or "held_out"), `limit` (drawn by seed), `per_class` (few-sample mode), `seed`.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgepress.data import arrays, bundled, hub, images, preprocess, tables, text
from edgepress.data.check import check_finite
from edgepress.data.dataset import Dataset, per_class, split
from edgepress.errors import UserError

SOURCES: Mapping[str, Callable[..., Dataset]] = {
    "npz": arrays.npz,
    "idx": arrays.idx,
    "csv": tables.csv_table,
    "image_folder": images.image_folder,
    "text_lines": text.text_lines,
    "hf_dataset": hub.hf_dataset,
    "digits": bundled.digits,
}
SELECTION = ("hold_out", "part", "limit", "per_class", "seed")


def open_source(
    kind: str, options: Mapping[str, Any], base: Path, *, maker: Callable[..., Any] | None = None
) -> Dataset:
    """Read a data set.

    Args:
        kind: a key of `SOURCES`, or "factory" for the user's own function, given as `maker`.
        options: see the function of that kind, and the module's docstring for those that all kinds take.
        base: folder that relative paths start from.
        maker: the user's function for kind "factory"; called with the remaining options as keyword arguments.

    Raises:
        UserError: unknown kind or option, missing or damaged file, empty data, values that are not finite.
    """
    shared = {k: v for k, v in options.items() if k in (*preprocess.OPTIONS, *SELECTION)}
    own = {k: v for k, v in options.items() if k not in shared}
    raw = arrays.from_factory(maker, own) if kind == "factory" else _read(kind, own, base)
    dataset = preprocess.from_options(shared).apply(_select(raw, shared))
    check_finite(dataset)
    return dataset if dataset.source else replace(dataset, source=kind)


def _read(kind: str, options: Mapping[str, Any], base: Path) -> Dataset:
    function = SOURCES.get(kind)
    if function is None:
        raise UserError(f"unknown kind of data {kind!r}", found=kind, expected=", ".join([*SOURCES, "factory"]),
                        fix="set `kind` to one of these")  # fmt: skip
    known = [p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    unknown = sorted(set(options) - {p.name for p in known})
    missing = sorted({p.name for p in known if p.default is p.empty} - set(options))
    if unknown or missing:
        raise UserError(
            f"wrong options for data of kind {kind}",
            found="; ".join([*(f"unknown {name}" for name in unknown), *(f"{name} is missing" for name in missing)]),
            expected=", ".join([*(p.name for p in known), *preprocess.OPTIONS, *SELECTION]),
            fix="correct the options under `data`",
        )
    return function(base, **options)


def _select(dataset: Dataset, options: Mapping[str, Any]) -> Dataset:
    seed = int(options.get("seed", 0))
    if "hold_out" in options:
        rest, held = split(dataset, float(options["hold_out"]), seed)
        dataset = held if _part(options) == "held_out" else rest
    if "per_class" in options:
        dataset = per_class(dataset, int(options["per_class"]), seed)
    if "limit" in options:
        dataset = dataset.take(int(options["limit"]), seed)
    return dataset


def _part(options: Mapping[str, Any]) -> str:
    part = str(options.get("part", "rest"))
    if part not in ("rest", "held_out"):
        raise UserError("unknown part of the data", found=part, expected="rest or held_out")
    return part
