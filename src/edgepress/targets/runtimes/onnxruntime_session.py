"""onnxruntime: the only place where artifacts meet it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepress.errors import MissingTool, ToolError, UserError
from edgepress.targets.runtimes.inputs import Array, Described, InputSpec, check_inputs

if TYPE_CHECKING:
    from edgepress.targets.target import Target

# Options of the target that are for the execution provider and not for the session.
PROVIDER_OPTION = "provider."
# onnxruntime's names of element types -> numpy's.
_NUMPY_NAMES = {"float": "float32", "double": "float64"}


def import_runtime() -> Any:
    """The onnxruntime module.

    Raises:
        MissingTool: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MissingTool("onnxruntime", needed_for="running ONNX files", install="pip install onnxruntime") from None
    return onnxruntime


def open_session(artifact: Path, target: Target) -> OnnxruntimeSession:
    """Load an .onnx or .ort file; see `edgepress.targets.runtimes.open_session`."""
    return OnnxruntimeSession(artifact, target)


class OnnxruntimeSession(Described):
    """A file loaded with the target's thread count, nodes one after another, threads asleep between runs."""

    def __init__(self, artifact: Path, target: Target) -> None:
        ort = import_runtime()
        providers = _providers(ort, target)
        self._name = artifact.name
        try:
            self._session = ort.InferenceSession(str(artifact), session_options(ort, target), providers=providers)
        except Exception as error:  # its exceptions share no base class
            raise ToolError(
                f"onnxruntime {ort.__version__} refuses {artifact}",
                found=str(error).strip().splitlines()[0],
                expected="a valid model whose operators it knows",
            ) from None
        used = self._session.get_providers()[0]
        check_provider(used, providers, target)
        used = used.removesuffix("ExecutionProvider")
        self._description = f"onnxruntime {ort.__version__} {used}, {target.threads} thread(s)"
        self._specs = {
            value.name: InputSpec(tuple(value.shape), _numpy_name(value.type)) for value in self._session.get_inputs()
        }
        self._output_names = tuple(value.name for value in self._session.get_outputs())

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        try:
            return self._session.run(None, inputs)
        except Exception as error:  # checked only now: a check before each run would be part of every latency
            check_inputs(inputs, self._specs)
            raise ToolError(f"onnxruntime failed in {self._name}", found=str(error).strip().splitlines()[0]) from None

    def close(self) -> None:
        self._session = None


def session_options(ort: Any, target: Target) -> Any:
    """What a session for `target` is opened with."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = target.threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3  # errors reach the caller as exceptions; warnings would go to stderr
    # Spinning workers would steal the time of whatever else is measured beside this session.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for key, value in target.options.items():
        if not key.startswith(PROVIDER_OPTION):
            options.add_session_config_entry(key, _config_text(value))
    return options


def _config_text(value: str | int | float | bool) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _providers(ort: Any, target: Target) -> list[Any]:
    """The execution provider of the target's device; a missing one is an error, never a silent fall-back to the CPU."""
    kind, _, index = target.device.partition(":")
    if kind == "cpu":
        return ["CPUExecutionProvider"]
    wanted = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}.get(kind)
    if wanted is None:
        raise UserError(
            f"target {target.name}: onnxruntime has no device {target.device!r}", expected="cpu, cuda:N or tensorrt:N"
        )
    if wanted not in ort.get_available_providers():
        raise MissingTool(wanted, needed_for=f"target {target.name}", install="pip install onnxruntime-gpu")
    settings = {"device_id": str(int(index or 0)), **provider_options(target)}
    # What TensorRT does not take runs on CUDA, what CUDA does not take on the CPU; how much that is, is in the outputs'
    # timing. `options: {session.disable_cpu_ep_fallback: 1}` makes it an error.
    middle: list[Any] = [("CUDAExecutionProvider", {"device_id": settings["device_id"]})] if kind == "tensorrt" else []
    return [(wanted, settings), *middle, "CPUExecutionProvider"]


def provider_options(target: Target) -> dict[str, str]:
    """The target's options for its execution provider, e.g. `provider.trt_engine_cache_enable: true`."""
    return {
        key.removeprefix(PROVIDER_OPTION): _config_text(value)
        for key, value in target.options.items()
        if key.startswith(PROVIDER_OPTION)
    }


def check_provider(used: str, asked: list[Any], target: Target) -> None:
    """Where a provider's libraries (CUDA, cuDNN, TensorRT) cannot be loaded, onnxruntime goes on without it.

    Raises:
        MissingTool: that happened.
    """
    wanted = asked[0] if isinstance(asked[0], str) else asked[0][0]
    if used != wanted:
        raise MissingTool(
            f"the libraries of {wanted}",
            needed_for=f"target {target.name}: onnxruntime took {used} instead",
            install="pip install 'onnxruntime-gpu[cuda,cudnn]'" if "CUDA" in wanted else "pip install tensorrt",
        )


def _numpy_name(onnx_type: str) -> str:
    element = onnx_type.removeprefix("tensor(").removesuffix(")")
    return _NUMPY_NAMES.get(element, element)
