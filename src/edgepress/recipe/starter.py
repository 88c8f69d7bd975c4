"""`edgepress init`: a commented recipe that works for a given model, to be edited from there."""

import ast
import csv
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepress.errors import UserError
from edgepress.recipe.explain import nearest
from edgepress.recipe.loader import parse_recipe
from edgepress.recipe.section import FILE_FUNCTION, MODULE_FUNCTION

INPUT = re.compile(r"(?P<name>[\w.]+)=(?P<sizes>\d+(x\d+)*)(:(?P<dtype>\w+))?")


@dataclass(frozen=True)
class Start:
    """What is known about the model. Paths are relative to the working folder, as typed in a shell.

    Attributes:
        model: `file.py:function`, `package.module:function`, a .pt2 or .onnx file, or a Hugging Face id or folder.
        inputs: `name=3x32x32` or `name=128:int64` each, without the batch dimension.
        train, evaluate: "digits", an .npz, .csv, .tsv or .txt file or a folder of images; "" for none.
    """

    model: str
    inputs: Sequence[str] = ()
    weights: Path | None = None
    train: str = ""
    evaluate: str = ""
    task: str = "classification"


def starter_text(start: Start, folder: Path) -> str:
    """A recipe for `folder` to hold; what needs data is left out where no data is given.

    Raises:
        UserError: a file or function that is not there, or an input or data source that cannot be understood.
    """
    parts = [_head(start), _model(start, folder), _data(start, folder), _steps(start), _tail(start)]
    text = "\n".join(part for part in parts if part)
    parse_recipe(text, name="the new recipe", base=folder)
    return text


def _head(start: Start) -> str:
    stem = re.split(r"[/:\\]", start.model.rstrip("/"))[-1].removesuffix(".pt2").removesuffix(".onnx")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).lstrip("._-")[:100] or "model"
    return (
        "# Paths are relative to this file. Every key: `edgepress schema`. The plan: `edgepress run --dry-run`.\n"
        f"schema: 1\nname: {_quoted(name)}\nseed: 0\n"
    )


def _model(start: Start, folder: Path) -> str:
    door, value = _door(start.model, folder)
    lines = ["model:", f"  {door}: {_quoted(value)}"]
    if start.weights:
        lines.append(f"  weights: {_quoted(_relative(_existing(start.weights), folder))}")
    if start.inputs:
        lines += ["  inputs:  # sizes without the batch dimension", *map(_input, start.inputs)]
    return "\n".join(lines) + "\n"


def _door(model: str, folder: Path) -> tuple[str, str]:
    if match := FILE_FUNCTION.fullmatch(model):
        file = _existing(Path(match["file"]))
        _must_define(file, match["name"])
        return "factory", f"{_relative(file, folder)}:{match['name']}"
    if MODULE_FUNCTION.fullmatch(model):
        return "factory", model
    for ending in ("pt2", "onnx"):
        if model.endswith(f".{ending}"):
            return ending, _relative(_existing(Path(model)), folder)
    if Path(model).is_dir():
        return "huggingface", str(Path(model).resolve())
    if re.fullmatch(r"[\w.-]+/[\w.-]+", model) and not Path(model).suffix:
        return "huggingface", model
    doors = "FILE.py:FUNCTION, package.module:function, a .pt2 or .onnx file, or a Hugging Face id"
    raise UserError(f"{model}: not a model", found=model, expected=doors, fix="edgepress init models/net.py:build")


def _must_define(file: Path, function: str) -> None:
    """Looked up in the text: the user's code is not run for this."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError) as error:
        raise UserError(f"{file}: not Python", found=str(error), expected="a module", fix=f"python {file}") from None
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    if function not in names:
        near = nearest(function, names)
        fix = f"did you mean {file}:{near}?" if near else f"define {function} in {file}"
        found = ", ".join(sorted(names)) or "no functions"
        raise UserError(f"{file}: does not define {function}", found=found, expected=function, fix=fix)


def _input(text: str) -> str:
    match = INPUT.fullmatch(text)
    if not match:
        example = "--input image=3x32x32"
        raise UserError(f"--input {text}: not an input", found=text, expected="name=AxBxC[:dtype]", fix=example)
    dtype = f", dtype: {match['dtype']}" if match["dtype"] else ""
    return f"    {match['name']}: {{shape: [{match['sizes'].replace('x', ', ')}]{dtype}}}"


def _data(start: Start, folder: Path) -> str:
    sources = {"train": start.train, "evaluate": start.evaluate}
    lines = [f"  {part}: {source_text(part, value, folder)}" for part, value in sources.items() if value]
    return "\n".join(["data:", *lines]) + "\n" if lines else ""


def source_text(part: str, value: str, folder: Path) -> str:
    """A data source as the recipe holds it; `part` is train or evaluate.

    Raises:
        UserError: nothing there, or nothing that can be understood.
    """
    if value == "digits":
        return f"{{kind: digits, split: {'train' if part == 'train' else 'test'}}}"
    path = _existing(Path(value))
    where = f"path: {_quoted(_relative(path, folder))}"
    if path.is_dir():
        return f"{{kind: image_folder, {where}}}"
    if path.suffix == ".npz":
        inputs, targets = _array_names(path)
        names = ", ".join(map(_quoted, inputs))
        read = f"[{names}]" if len(inputs) > 1 else names
        return f"{{kind: npz, {where}, inputs: {read}, targets: {_quoted(targets)}}}"
    if path.suffix in (".csv", ".tsv"):
        return f"{{kind: csv, {where}, target: {_quoted(_last_column(path))}}}"
    if path.suffix == ".txt":
        return f"{{kind: text_lines, {where}}}"
    kinds = "digits, a folder of images, .npz, .csv, .tsv or .txt"
    raise UserError(f"--{part} {value}: not a data source", found=value, expected=kinds, fix="edit `data:` by hand")


def _array_names(path: Path) -> tuple[list[str], str]:
    """(inputs in their order, targets) of an archive: the one array with the fewest dimensions is the targets."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            dimensions = {name: archive[name].ndim for name in archive.files}
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not an .npz archive", found=str(error), expected="arrays", fix="np.savez") from None
    fewest = [name for name, count in dimensions.items() if count == min(dimensions.values())]
    if len(fewest) != 1 or len(dimensions) == 1:
        found = ", ".join(f"{name} ({n}-d)" for name, n in dimensions.items())
        fix = "edit `data:` by hand: {kind: npz, path: ..., inputs: ..., targets: ...}"
        raise UserError(f"{path}: which array is which?", found=found, expected="inputs and targets", fix=fix)
    return [name for name in dimensions if name not in fewest], fewest[0]


def _last_column(path: Path) -> str:
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        header = next(csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ","), [])
    if len(header) < 2:
        raise UserError(f"{path}: no table", found=f"{len(header)} columns", expected="a header line", fix="add one")
    return header[-1]


def _steps(start: Start) -> str:
    if not start.train:
        return (
            "# With data (`data: {train: ..., evaluate: ...}`) also: train (recovery) and quantize.\n"
            "steps:\n"
            "  - prune: {criterion: l2, reduce: {macs: 0.3}, reconstruct: false}\n"
            "  - export: {format: onnx}\n"
        )
    if _without_labels(start.train):
        return (
            "# With labels (images in one folder per class) also: train (recovery).\n"
            "steps:\n"
            "  - prune: {reduce: {macs: 0.2}}  # judged by how far the outputs move\n"
            "  - quantize: {scheme: int8, when_slower: float}  # what does not pay stays float\n"
            "  - export: {format: onnx}\n"
        )
    return (
        "steps:\n"
        "  - prune: {criterion: taylor, reduce: {macs: 0.5}}\n"
        "  - train: {epochs: 3, optimizer: adamw, lr: 0.001, distill: {loss: kd, temperature: 4.0, weight: 0.7}}\n"
        "  - quantize: {scheme: int8, when_slower: float}  # what does not pay stays float\n"
        "  - export: {format: onnx}\n"
    )


def _without_labels(train: str) -> bool:
    """Whether the data is a folder of images that are in no class."""
    folder = Path(train)
    return folder.is_dir() and not any(item.is_dir() for item in folder.iterdir())


def _tail(start: Start) -> str:
    accuracy = "true" if start.evaluate else "false  # needs data.evaluate"
    budgets = "budgets:\n  - {metric: size_bytes, max_ratio: 0.9}\n"
    if start.evaluate:
        budgets += "  - {metric: accuracy, max_drop: 0.02}\n"
    return f"task: {start.task}\ntargets: [local-cpu]\nmeasure:\n  accuracy: {accuracy}\n{budgets}"


def _existing(path: Path) -> Path:
    if path.exists():
        return path.resolve()
    neighbours = [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else []
    near = nearest(path.name, neighbours)
    fix = f"did you mean {path.parent / near}?" if near else f"ls {path.parent}"
    raise UserError(f"{path}: no such file", found="nothing there", expected="an existing file", fix=fix)


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder.resolve())).as_posix()


def _quoted(text: str) -> str:
    """As YAML, also inside braces: quoted unless it can only be read as text."""
    plain = re.fullmatch(r"[A-Za-z_./][A-Za-z0-9_./:-]*", text) and text.lower() not in {"true", "false", "null"}
    return text if plain else json.dumps(text, ensure_ascii=False)
