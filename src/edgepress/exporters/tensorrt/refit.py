"""Give an engine other weights of the same shapes without building it again: after fine-tuning, not after pruning.

Written against the documentation of TensorRT 10 and 11; see docs/targets.md for what has been executed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from edgepress.errors import ToolError, UserError
from edgepress.exporters.tensorrt.build import TensorrtArtifact
from edgepress.targets.runtimes.tensorrt_session import Log, import_runtime


def refit_engine(engine: Path, source: Path, path: Path) -> TensorrtArtifact:
    """Write `engine` with the weights of the ONNX file `source` to `path`.

    Raises:
        UserError: a file is missing, or the engine was not built with `refit`.
        MissingTool: the Python module is not here; trtexec cannot do it. ToolError: the weights do not fit.
    """
    for file in (engine, source):
        if not file.is_file():
            raise UserError(f"no file {file}", expected="an engine and the ONNX file with its new weights")
    trt = import_runtime()
    log = Log.of(trt)
    runtime = trt.Runtime(log)
    runtime.engine_host_code_allowed = True  # we built it ourselves; version-compatible engines carry code
    loaded = runtime.deserialize_cuda_engine(engine.read_bytes())
    if loaded is None:
        raise ToolError(f"TensorRT {trt.__version__} refuses {engine}", found=log.last_error())
    if not loaded.refittable:
        raise UserError(f"{engine} cannot be refitted", found="an engine built without refit", expected="refit: true")
    _replace_weights(trt, log, loaded, source)
    content = bytes(loaded.serialize())
    path.write_bytes(content)
    return TensorrtArtifact(path, hashlib.sha256(content).hexdigest(), (), ())


def _replace_weights(trt: Any, log: Log, engine: Any, source: Path) -> None:
    refitter = trt.Refitter(engine, log)
    parser = trt.OnnxParserRefitter(refitter, log)
    if not parser.refit_from_file(str(source)):
        errors = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise ToolError(
            f"the weights of {source.name} do not fit the engine", found=errors[0] if errors else "no reason"
        )
    if not refitter.refit_cuda_engine():
        raise ToolError("TensorRT could not refit the engine", found=log.last_error())
