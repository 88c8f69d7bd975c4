"""TensorRT: the only place that imports it. Written against the documentation of TensorRT 10 and 11."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepress.errors import MissingTool, ToolError
from edgepress.targets.runtimes.inputs import Array, Described, InputSpec, check_inputs

if TYPE_CHECKING:
    from edgepress.targets.target import Target


def import_runtime() -> Any:
    """The tensorrt module.

    Raises:
        MissingTool: it is not installed.
    """
    try:
        import tensorrt
    except ImportError:
        raise MissingTool("tensorrt", needed_for="TensorRT", install="pip install 'edgepress[tensorrt]'") from None
    return tensorrt


class Log:
    """Keeps TensorRT's errors for our own messages instead of printing them."""

    errors: list[str]

    @staticmethod
    def of(trt: Any) -> Any:
        """A logger of TensorRT's own type."""

        class Kept(trt.ILogger, Log):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)
                self.errors = []

            def log(self, severity: Any, message: str) -> None:
                if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                    self.errors.append(message)

        return Kept()

    def last_error(self) -> str:
        return self.errors[-1] if self.errors else "no message"


def open_session(artifact: Path, target: Target) -> TensorrtSession:
    """Load an .engine or .plan file. Such a file is executable code: only load those that you built yourself."""
    return TensorrtSession(artifact, target)


class TensorrtSession(Described):
    """An engine with buffers from torch; a run ends when the outputs are in host memory."""

    def __init__(self, artifact: Path, target: Target) -> None:
        trt = import_runtime()
        import torch

        if not torch.cuda.is_available():
            raise MissingTool("torch with CUDA", needed_for=f"target {target.name}", install="install torch for CUDA")
        self._torch, self._device, self._log = torch, target.device, Log.of(trt)
        runtime = trt.Runtime(self._log)
        runtime.engine_host_code_allowed = True
        self._engine = runtime.deserialize_cuda_engine(artifact.read_bytes())
        if self._engine is None:
            raise ToolError(f"TensorRT {trt.__version__} refuses {artifact}", found=self._log.last_error())
        self._context = self._engine.create_execution_context()
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        takes = {name: self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names}
        self._types = {name: trt.nptype(self._engine.get_tensor_dtype(name)) for name in names}
        self._specs = {name: self._spec(name) for name in names if takes[name]}
        self._output_names = tuple(name for name in names if not takes[name])
        self._description = f"tensorrt {trt.__version__} {target.device}"

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        buffers = self._placed(inputs)
        stream = self._torch.cuda.current_stream(self._device)
        self._execute(stream)
        stream.synchronize()
        return [buffers[name].cpu().numpy() for name in self._output_names]

    def device_ms(self, inputs: Mapping[str, Array]) -> float | None:
        """Milliseconds of the run between two CUDA events, inputs already there."""
        kept = self._placed(inputs)  # the engine reads and writes them until the second event
        cuda = self._torch.cuda
        stream = cuda.current_stream(self._device)
        before, after = (cuda.Event(enable_timing=True) for _ in range(2))
        before.record(stream)
        self._execute(stream)
        after.record(stream)
        after.synchronize()
        del kept
        return float(before.elapsed_time(after))

    def _execute(self, stream: Any) -> None:
        if not self._context.execute_async_v3(stream.cuda_stream):
            raise ToolError("TensorRT failed to run the engine", found=self._log.last_error())

    def _placed(self, inputs: Mapping[str, Array]) -> dict[str, Any]:
        """Buffers of all inputs and outputs on the GPU, made known to the engine."""
        check_inputs(inputs, self._specs)
        torch = self._torch
        buffers = {name: torch.from_numpy(inputs[name]).contiguous().to(self._device) for name in self._specs}
        for name, buffer in buffers.items():
            self._context.set_input_shape(name, tuple(buffer.shape))
        for name in self._output_names:
            empty = torch.from_numpy(_empty(tuple(self._context.get_tensor_shape(name)), self._types[name]))
            buffers[name] = empty.to(self._device)
        for name, buffer in buffers.items():
            self._context.set_tensor_address(name, buffer.data_ptr())
        return buffers

    def close(self) -> None:
        self._context = self._engine = None

    def _spec(self, name: str) -> InputSpec:
        import numpy as np

        shape = tuple(None if size < 0 else int(size) for size in self._engine.get_tensor_shape(name))
        return InputSpec(shape, np.dtype(self._types[name]).name)


def _empty(shape: tuple[int, ...], dtype: Any) -> Array:
    import numpy as np

    return np.empty(shape, dtype)
