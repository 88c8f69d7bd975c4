"""OpenVINO: the only place that imports it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepress.errors import MissingTool, ToolError, UserError
from edgepress.targets.runtimes.inputs import Array, Described, InputSpec, check_inputs

if TYPE_CHECKING:
    from edgepress.targets.target import Target


def import_runtime() -> Any:
    """The openvino module, kept from reporting its use.

    Importing it forks a process that sends an event to its makers, and that can be left behind. Where its telemetry
    package cannot be imported, it falls back to a stub of its own that does nothing.

    Raises:
        MissingTool: it is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: import fails
    try:
        import openvino
    except ImportError:
        raise MissingTool("openvino", needed_for="OpenVINO", install="pip install 'edgepress[openvino]'") from None
    return openvino


def reason(error: BaseException) -> str:
    """What OpenVINO says under its stack of file names: the last line that is no "Exception from" or "Check"."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (telling or lines or [type(error).__name__])[-1]


def open_session(artifact: Path, target: Target) -> OpenvinoSession:
    """Load an .xml (with its .bin) or .onnx file; see `edgepress.targets.runtimes.open_session`."""
    return OpenvinoSession(artifact, target)


class OpenvinoSession(Described):
    """A model compiled for one stream of the target's threads, with answers in the precision the model asks for.

    OpenVINO would by itself compute float models in bf16 where the CPU has it; that is another model than the one that
    was exported. `options: {EXECUTION_MODE_HINT: PERFORMANCE}` in the target file allows it.
    """

    def __init__(self, artifact: Path, target: Target) -> None:
        openvino = import_runtime()
        core = openvino.Core()
        _check_device(core, target)
        self._name = artifact.name
        try:
            model = core.read_model(str(artifact))
            compiled = core.compile_model(model, target.device, _options(target))
        except RuntimeError as error:
            raise ToolError(f"OpenVINO refuses {artifact}", found=reason(error)) from None
        self._request = compiled.create_infer_request()
        self._specs = {port.get_any_name(): _spec(port) for port in compiled.inputs}
        self._names = frozenset(self._specs)
        self._types = {name: spec.dtype for name, spec in self._specs.items()}
        self._outputs = {port.get_any_name(): port for port in compiled.outputs}
        self._output_names = tuple(self._outputs)
        version = openvino.__version__.split("-")[0]
        self._description = f"openvino {version} {target.device}, {target.threads} thread(s)"

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        # Checked before the run, unlike elsewhere: OpenVINO converts types and reuses the last inputs without a word.
        if inputs.keys() != self._names or any(inputs[n].dtype.name != self._types[n] for n in self._names):
            check_inputs(inputs, self._specs)
        try:
            results = self._request.infer(dict(inputs), share_inputs=True)
        except RuntimeError as error:
            check_inputs(inputs, self._specs)
            raise ToolError(f"OpenVINO failed in {self._name}", found=reason(error)) from None
        return [results[port] for port in self._outputs.values()]

    def close(self) -> None:
        self._request = None


def _check_device(core: Any, target: Target) -> None:
    device = target.device.partition(".")[0]
    if device not in {name.partition(".")[0] for name in core.available_devices}:
        raise UserError(
            f"target {target.name}: OpenVINO sees no device {target.device!r}",
            found=", ".join(core.available_devices) or "none",
            expected=target.device,
            fix="install the device's driver, or change `device:` in the target file",
        )


def _options(target: Target) -> dict[str, str | int | float | bool]:
    threads = {"INFERENCE_NUM_THREADS": target.threads, "NUM_STREAMS": 1} if target.device == "CPU" else {}
    return {"PERFORMANCE_HINT": "LATENCY", "EXECUTION_MODE_HINT": "ACCURACY", **threads, **target.options}


def _spec(port: Any) -> InputSpec:
    shape = tuple(size.get_length() if size.is_static else None for size in port.get_partial_shape())
    return InputSpec(shape, port.get_element_type().to_dtype().name)
