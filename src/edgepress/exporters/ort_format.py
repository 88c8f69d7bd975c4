"""The ORT format: a graph that onnxruntime has optimised already, for its builds without the ONNX reader (mobile)."""

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepress.errors import ToolError, UserError
from edgepress.targets.runtimes.onnxruntime_session import import_runtime


@dataclass(frozen=True)
class OrtArtifact:
    """The written .ort file and its sha256."""

    path: Path
    digest: str


def export_ort(source: Path, path: Path) -> OrtArtifact:
    """Convert an ONNX file. Only rewrites that hold on every CPU are made (onnxruntime's level "extended").

    Raises:
        MissingTool: onnxruntime is not installed. UserError: no such file, or `path` does not end in .ort.
        ToolError: onnxruntime refuses the model, or the file cannot be written.
    """
    ort = import_runtime()
    if not source.is_file():
        raise UserError(f"no ONNX file at {source}")
    if path.suffix != ".ort":
        raise UserError("an artifact in ORT format is an .ort file", found=path.name, expected=".ort")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / path.name
            _convert(ort, source, made)
            digest = hashlib.sha256(made.read_bytes()).hexdigest()
            made.replace(path)
    except OSError as error:
        raise ToolError(f"{path} cannot be written", found=error.strerror or str(error)) from None
    return OrtArtifact(path, digest)


def _convert(ort: Any, source: Path, made: Path) -> None:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(made)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.add_session_config_entry("session.save_model_format", "ORT")
    try:
        ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base class
        raise ToolError(f"onnxruntime cannot convert {source}", found=str(error).strip().splitlines()[0]) from None
