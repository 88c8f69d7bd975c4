"""Evidence about a bare file: what can be said about a model without running it."""

import hashlib
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path

from edgepress import __version__
from edgepress.errors import UserError
from edgepress.gate.onnx_wire import read_onnx
from edgepress.gate.packages import figures_of_c, parameters_of_pt2
from edgepress.measure.record import Environment, Evidence, Measurement, Subject

FORMATS: Mapping[str, str] = {
    ".onnx": "onnx",
    ".ort": "ort",
    ".engine": "tensorrt",
    ".plan": "tensorrt",
    ".pt2": "pt2",
    ".tflite": "tflite",
    ".xml": "openvino",
}

SOURCES = frozenset({".c", ".h", ".a", ".o"})


def describe_artifact(path: Path, name: str = "") -> Subject:
    """Sizes and counts of any artifact: a file of one of the `FORMATS`, or the folder of a C library.

    Raises:
        UserError: nothing is there, the kind is unknown, or the file is broken.
    """
    if not path.exists():
        what, expected = f"no such file or folder: {path}", "a run folder or a model file"
        raise UserError(what, found="nothing", expected=expected, fix="check the path")
    if path.is_dir():
        return _c_library(path, name or path.name)
    kind = FORMATS.get(path.suffix)
    if kind is None:
        expected = f"a run folder, a C library folder, or {', '.join(FORMATS)}"
        what, found = f"{path} is no model file that edgepress knows", path.suffix or "no suffix"
        raise UserError(what, found=found, expected=expected, fix="give one of these")
    counted = COUNTS[kind](path) if kind in COUNTS else _file_size(path)
    return Subject(name=name or path.name, format=kind, artifact=str(path), digest=_digest(path), measurements=counted)


def artifact_evidence(compressed: Subject, baseline: Subject | None = None, command: str = "") -> Evidence:
    """Evidence that holds only what files tell; everything else is absent, and budgets on it are inconclusive."""
    return Evidence(
        name=compressed.name,
        created="",
        edgepress_version=__version__,
        command=command,
        seed=0,
        recipe={},
        environment=_nowhere(),
        baseline=baseline or Subject(name="(no baseline)"),
        compressed=compressed,
    )


def _nowhere() -> Environment:
    """Nothing was run, so that only the plainest facts are looked up: a gate on sizes must start at once."""
    return Environment(
        machine_class="not measured",
        os=platform.system(),
        cpu=platform.machine(),
        cores=os.cpu_count() or 1,
        memory_bytes=0,
        python=platform.python_version(),
    )


def _onnx_counts(path: Path) -> tuple[Measurement, ...]:
    contents = read_onnx(path)
    beside = [path.parent / name for name in contents.external]
    missing = [str(file) for file in beside if not file.is_file()]
    if missing:
        raise UserError(
            f"{path}: its external weights are missing",
            found="nothing at " + ", ".join(missing),
            expected="the files that the model names, beside it",
            fix="copy them there",
        )
    counts = {"params": contents.params, "operators": contents.operators}
    return (
        *_file_size(path, *beside),
        *(_counted(name, value, "count", "read from the file") for name, value in counts.items()),
    )


def _openvino_counts(path: Path) -> tuple[Measurement, ...]:
    binary = path.with_suffix(".bin")
    return _file_size(path, *([binary] if binary.is_file() else []))


def _pt2_counts(path: Path) -> tuple[Measurement, ...]:
    params = parameters_of_pt2(path)
    known = () if params is None else (_counted("params", params, "count", "read from the archive"),)
    return (*_file_size(path), *known)


COUNTS: Mapping[str, Callable[[Path], tuple[Measurement, ...]]] = {
    "onnx": _onnx_counts,
    "openvino": _openvino_counts,
    "pt2": _pt2_counts,
}
"""What is read from files of a kind; of the others, their size."""


def _file_size(*files: Path) -> tuple[Measurement, ...]:
    total = sum(file.stat().st_size for file in files)
    return (_counted("size_bytes", total, "bytes", f"{len(files)} file(s)"),)


def _c_library(folder: Path, name: str) -> Subject:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    if not any(file.suffix in SOURCES for file in files):
        raise UserError(
            f"{folder} is neither a run nor a C library",
            found=f"{len(files)} files, no evidence.json, no .c, .h, .a or .o",
            expected="a folder written by edgepress run or edgepress export",
            fix="name the run folder or the model file itself",
        )
    stated = [_counted(*figure, "stated by its manifest") for figure in figures_of_c(folder)]
    return Subject(name=name, format="c", artifact=str(folder), measurements=(*_file_size(*files), *stated))


def _counted(name: str, value: float, unit: str, method: str) -> Measurement:
    return Measurement(name=name, value=value, unit=unit, source="counted", method=method)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
