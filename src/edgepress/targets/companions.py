"""Files that belong to an artifact without being named."""

from pathlib import Path


def companions(artifact: Path) -> tuple[Path, ...]:
    """Files the artifact cannot run without and that lie beside it by convention (.xml: .bin, .onnx: .onnx.data)."""
    beside = {".xml": artifact.with_suffix(".bin"), ".onnx": artifact.with_name(artifact.name + ".data")}
    path = beside.get(artifact.suffix)
    return (path,) if path is not None and path.is_file() else ()
