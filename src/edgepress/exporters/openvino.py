"""OpenVINO IR: an .xml and its .bin, made from an ONNX file."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgepress.errors import ToolError, UserError
from edgepress.targets.runtimes.openvino_session import import_runtime, reason


@dataclass(frozen=True)
class OpenvinoArtifact:
    """The .xml, the .bin beside it, and one sha256 over both."""

    path: Path
    weights: Path
    digest: str


def export_openvino(source: Path, path: Path, *, half_weights: bool = False) -> OpenvinoArtifact:
    """Convert an ONNX file. Integer weights of Q/DQ models stay integers.

    Args:
        path: where the .xml goes; the .bin goes beside it.
        half_weights: store float weights in 16 bits; they are computed in what the device prefers either way.

    Raises:
        MissingTool: OpenVINO is not installed.
        UserError: `source` is not there, or `path` does not end in .xml.
        ToolError: OpenVINO cannot convert it, or the disk is full.
    """
    openvino = import_runtime()
    if not source.is_file():
        raise UserError(f"no ONNX file at {source}")
    if path.suffix != ".xml":
        raise UserError(
            "an OpenVINO artifact is an .xml file with a .bin beside it",
            found=path.name,
            expected=".xml",
            fix=f"name it {path.with_suffix('.xml').name}",
        )
    weights = path.with_suffix(".bin")
    try:
        model = openvino.Core().read_model(str(source))
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            written = Path(folder) / path.name
            openvino.save_model(model, str(written), compress_to_fp16=half_weights)
            del model  # it may map the file it came from
            digest = hashlib.sha256(written.read_bytes() + written.with_suffix(".bin").read_bytes()).hexdigest()
            written.with_suffix(".bin").replace(weights)
            written.replace(path)
    except RuntimeError as error:
        raise ToolError(f"OpenVINO cannot convert {source}", found=reason(error)) from None
    except OSError as error:
        raise ToolError(f"{path} cannot be written", found=error.strerror or str(error)) from None
    return OpenvinoArtifact(path, weights, digest)
