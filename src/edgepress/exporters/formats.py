"""Which file each target runs, and how to write it: the one place that knows all formats."""

import tempfile
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import onnx

from edgepress.errors import UserError
from edgepress.exporters.onnx import OnnxArtifact, OnnxOptions, export_onnx
from edgepress.exporters.openvino import export_openvino
from edgepress.exporters.ort_format import export_ort
from edgepress.exporters.pt2 import export_aot, export_pt2
from edgepress.exporters.tensorrt import EngineOptions, Profile, build_engine
from edgepress.ir.program import Program
from edgepress.targets import Target

Format = Literal["onnx", "ort", "openvino", "tensorrt", "pt2", "aot", "c"]
FILES: dict[str, str] = {
    "onnx": "model.onnx",
    "ort": "model.ort",
    "openvino": "model.xml",
    "tensorrt": "model.engine",
    "pt2": "model.pt2",
    "aot": "model.aot.pt2",
}
FROM_ONNX = ("ort", "openvino", "tensorrt", "c")
HALF_FORMATS = ("onnx", *FROM_ONNX)
"""Formats whose number format is decided when they are written."""


@dataclass(frozen=True)
class WriteOptions:
    """Settings of all formats.

    Attributes:
        onnx: of the ONNX file, from which ORT, OpenVINO and TensorRT files are made. engine: TensorRT's builder.
        best_batch, most_batch: an engine is tuned for the one and takes up to the other, where the batch is free and
            `engine` has no profiles of its own.
    """

    onnx: OnnxOptions = field(default_factory=OnnxOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)
    best_batch: int = 1
    most_batch: int = 64


@dataclass(frozen=True)
class Files:
    """What was written: format -> file, and what there is to say about the ONNX file if one was needed."""

    paths: dict[str, Path]
    onnx: OnnxArtifact | None = None


def format_of(target: Target) -> Format:
    """The format of the file that a target runs."""
    if target.runtime == "torch":
        return "aot" if target.options.get("mode") == "aot" else "pt2"
    formats: dict[str, Format] = {"onnxruntime": "onnx", "openvino": "openvino", "tensorrt": "tensorrt", "c": "c"}
    return formats[target.runtime]


def write_files(program: Program, folder: Path, formats: Collection[str], options: WriteOptions | None = None) -> Files:
    """Write the program into `folder` in each of the formats, under the names of `FILES`.

    C is left to `exporters.c`, which starts from the ONNX file that is written for it here.

    Raises:
        UserError, MissingTool, ToolError: see the exporters.
    """
    options = options or WriteOptions()
    paths: dict[str, Path] = {}
    made = None
    if {"onnx", *FROM_ONNX} & set(formats):
        made = export_onnx(program, folder / FILES["onnx"], options=options.onnx)
        paths["onnx"] = made.path
    for kind in formats:
        if kind in FILES and kind not in paths:
            paths[kind] = folder / FILES[kind]
            _write(kind, program, folder / FILES["onnx"], paths[kind], options)
    return Files(paths, made)


def write_one(program: Program, path: Path, kind: str, options: WriteOptions | None = None) -> OnnxArtifact | None:
    """Write the program to `path` in one format; returns what there is to say about the ONNX file, if one was made.

    Raises:
        UserError, MissingTool, ToolError: see the exporters.
    """
    options = options or WriteOptions()
    if kind == "onnx":
        return export_onnx(program, path, options=options.onnx)
    if kind not in FROM_ONNX:
        _write(kind, program, path, path, options)
        return None
    with tempfile.TemporaryDirectory(prefix="edgepress-") as folder:
        between = export_onnx(program, Path(folder) / FILES["onnx"], options=options.onnx)
        _write(kind, program, between.path, path, options)
        return between


def convert(source: Path, path: Path, kind: str, options: WriteOptions | None = None) -> None:
    """Make an ORT, OpenVINO or TensorRT file of an ONNX file.

    Raises:
        UserError: another format, or a file that does not fit. MissingTool, ToolError: see the exporters.
    """
    if kind == "ort":
        export_ort(source, path)
    elif kind == "openvino":
        export_openvino(source, path)
    elif kind == "tensorrt":
        build_engine(source, path, engine_options(source, options or WriteOptions()))
    else:
        raise UserError(f"cannot make {kind} of an ONNX file", found=kind, expected="ort, openvino or tensorrt")


def engine_options(source: Path, options: WriteOptions) -> EngineOptions:
    """The builder's options, with a profile for each input of the ONNX file whose first size alone is free."""
    if options.engine.profiles:
        return options.engine
    graph = onnx.load(source, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    batches = (1, options.best_batch, max(options.best_batch, options.most_batch))
    profiles = {}
    for value in graph.input:
        free, *rest = value.type.tensor_type.shape.dim or [None]
        if free is None or value.name in weights or free.HasField("dim_value"):
            continue
        if all(size.HasField("dim_value") for size in rest):
            shapes = [(batch, *(size.dim_value for size in rest)) for batch in batches]
            profiles[value.name] = Profile(*shapes)
    return replace(options.engine, profiles=profiles)


def _write(kind: str, program: Program, source: Path, path: Path, options: WriteOptions) -> None:
    if kind == "pt2":
        export_pt2(program, path)
    elif kind == "aot":
        export_aot(program, path)
    else:
        convert(source, path, kind, options)
