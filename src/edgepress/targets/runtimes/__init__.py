"""The runtimes: `open_session` loads an artifact on the runtime that the target names."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from edgepress.errors import UserError
from edgepress.targets.runtimes.inputs import Array, InputSpec, made_up_inputs
from edgepress.targets.runtimes.session import Session

if TYPE_CHECKING:
    from edgepress.targets.target import Target

__all__ = ["Array", "InputSpec", "Session", "import_runtime", "made_up_inputs", "open_session"]

# Runtime -> (module with `import_runtime()` and `open_session(artifact, target)`, endings of the files it takes).
# The modules are imported on use: each is the only door to its third party.
RUNTIMES = {
    "onnxruntime": ("edgepress.targets.runtimes.onnxruntime_session", (".onnx", ".ort")),
    "openvino": ("edgepress.targets.runtimes.openvino_session", (".xml", ".onnx")),
    "torch": ("edgepress.targets.runtimes.torch_session", (".pt2", "")),
    "tensorrt": ("edgepress.targets.runtimes.tensorrt_session", (".engine", ".plan")),
}


def open_session(artifact: Path, target: Target) -> Session:
    """Load `artifact` on the target's runtime: in this process, or where the target is (see `targets.remote`).

    Raises:
        UserError: no such file, or not one this runtime takes.
        MissingTool: the runtime is not installed, or has no support for the target's device.
        ToolError: the runtime refuses the artifact, or the target cannot be reached.
    """
    module, endings = _runtime(target)
    _check_file(artifact, target, endings)
    if target.kind != "local":
        from edgepress.targets.remote.place import open_there

        return open_there(artifact, target)
    return importlib.import_module(module).open_session(artifact, target)


def import_runtime(target: Target) -> None:
    """Import the target's runtime and no more, so that its own memory can be told from the artifact's.

    Raises:
        MissingTool: the runtime is not installed.
    """
    importlib.import_module(_runtime(target)[0]).import_runtime()


def _runtime(target: Target) -> tuple[str, tuple[str, ...]]:
    if target.runtime not in RUNTIMES:
        raise UserError(
            f"target {target.name} has no runtime that runs in this process",
            found=target.runtime,
            expected=" or ".join(RUNTIMES),
        )
    return RUNTIMES[target.runtime]


def _check_file(artifact: Path, target: Target, endings: tuple[str, ...]) -> None:
    if not artifact.exists():
        raise UserError(f"no artifact at {artifact}", expected=f"a {' or '.join(endings)} file")
    if artifact.suffix not in endings or artifact.is_dir() != (artifact.suffix == ""):
        raise UserError(
            f"{target.runtime} cannot run {artifact.name}",
            found=f"a {artifact.suffix or 'nameless'} file",
            expected=" or ".join(endings),
            fix="export the model to that format, or choose a target with another runtime",
        )
