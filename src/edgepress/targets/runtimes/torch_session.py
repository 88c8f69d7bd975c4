"""PyTorch: exported programs operator by operator or through torch.compile, and packages of AOTInductor."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepress.errors import MissingTool, ToolError, UserError
from edgepress.targets.runtimes.inputs import Array, Described, InputSpec, check_inputs

if TYPE_CHECKING:
    import torch

    from edgepress.ir import Program
    from edgepress.targets.target import Target

# Key of an AOTInductor package's metadata. The package itself forgets names, and never checks shapes or types: it would
# read past the end of a smaller input.
SIGNATURE = "edgepress.signature"
# File inside an exported program's archive that keeps the names of inputs and outputs.
NAMES = "edgepress_names.json"


def import_runtime() -> Any:
    """The torch module, with what reading exported programs takes."""
    import torch

    import edgepress.ir  # noqa: F401  (registers quantized_decomposed::*)

    return torch


def open_session(artifact: Path, target: Target) -> TorchSession:
    """Load a program (folder or .pt2) or an AOTInductor package (.pt2); see `edgepress.targets.runtimes.open_session`.

    `options: {mode: eager | compile, autocast: float16 | bfloat16}` in the target says how a program runs; a package is
    compiled already.
    The number of threads is a setting of the whole process in PyTorch: the session opened last decides.
    """
    torch = import_runtime()
    _check_device(torch, target)
    torch.set_num_threads(target.threads)
    if _is_package(artifact):
        return _open_package(artifact, target)
    program = _read_program(artifact)
    module = program.module().to(target.device)
    mode = str(target.options.get("mode", "eager"))
    call = _in_half(torch, _callable(module, mode, target), target)
    mode += f" autocast {target.options['autocast']}" if "autocast" in target.options else ""
    return TorchSession(call, _specs(program), program.output_names, target, mode)


def compile_ahead(program: Program, package: Path) -> Path:
    """Compile a program for this machine's CPU with AOTInductor and write the package, a .pt2 of native code.

    Raises:
        MissingTool: no C++ compiler. ToolError: the compiler fails.
    """
    import torch

    signature = json.dumps({"inputs": _specs(program), "outputs": program.output_names})
    try:
        with torch.no_grad():
            written = torch._inductor.aoti_compile_and_package(
                program.exported,
                package_path=str(package),
                inductor_configs={"aot_inductor.metadata": {SIGNATURE: signature}},
            )
    except Exception as error:  # Inductor raises whatever went wrong inside it
        raise _compile_error(error) from error
    return Path(written)


class TorchSession(Described):
    """A callable on tensors, called on arrays. Outputs are copied to host memory, which also waits for a GPU."""

    def __init__(
        self,
        call: Callable[..., Any],
        specs: Mapping[str, InputSpec],
        output_names: Sequence[str],
        target: Target,
        mode: str,
    ) -> None:
        torch = import_runtime()
        self._torch, self._call, self._device = torch, call, target.device
        self._specs, self._output_names = specs, tuple(output_names)
        self._description = f"torch {torch.__version__} {mode} {target.device}, {target.threads} thread(s)"

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        check_inputs(inputs, self._specs)
        tensors = [self._torch.from_numpy(inputs[name]).to(self._device) for name in self._specs]
        try:
            with self._torch.inference_mode():
                outputs = self._call(*tensors)
        except Exception as error:  # torch raises whatever went wrong inside it
            raise ToolError("torch failed to run the artifact", found=_first_line(error)) from None
        return [tensor.cpu().numpy() for tensor in _flatten(outputs)]

    def device_ms(self, inputs: Mapping[str, Array]) -> float | None:
        """Milliseconds of the run between two CUDA events, inputs already there; `None` on the CPU."""
        if not self._device.startswith("cuda"):
            return None
        cuda = self._torch.cuda
        tensors = [self._torch.from_numpy(inputs[name]).to(self._device) for name in self._specs]
        before, after = (cuda.Event(enable_timing=True) for _ in range(2))
        with self._torch.inference_mode(), cuda.device(self._device):
            before.record()
            self._call(*tensors)
            after.record()
        after.synchronize()
        return float(before.elapsed_time(after))

    def close(self) -> None:
        self._call = _closed


def _closed(*_: Any) -> None:
    raise RuntimeError("the session is closed")


def _flatten(outputs: Any) -> list[torch.Tensor]:
    return list(outputs) if isinstance(outputs, tuple | list) else [outputs]


def _check_device(torch: Any, target: Target) -> None:
    if target.device.startswith("cuda") and not torch.cuda.is_available():
        raise MissingTool(
            "torch with CUDA", needed_for=f"target {target.name}", install="pip install torch from a CUDA index"
        )


def _read_program(artifact: Path) -> Program:
    from edgepress.ir import adopt, load
    from edgepress.ir.serde import load_archive

    if artifact.is_dir():
        return load(artifact)
    names = _names(artifact)
    return adopt(load_archive(artifact), input_names=names.get("inputs", ()), output_names=names.get("outputs", ()))


def _names(archive: Path) -> dict[str, list[str]]:
    """Names of inputs and outputs, where the archive is one of ours."""
    if not zipfile.is_zipfile(archive):
        return {}  # reading it will say what is wrong
    with zipfile.ZipFile(archive) as members:
        member = next((name for name in members.namelist() if name.endswith(f"/extra/{NAMES}")), None)
        return json.loads(members.read(member)) if member else {}


def _callable(module: Any, mode: str, target: Target) -> Callable[..., Any]:
    import torch

    if mode == "eager":
        return module
    if mode == "compile":
        return torch.compile(module)
    raise UserError(
        f"target {target.name} cannot run this program",
        found=f"mode {mode}",
        expected="mode eager or compile for an exported program, or a package of AOTInductor",
        fix="compile it first: edgepress.targets.runtimes.torch_session.compile_ahead",
    )


def _in_half(torch: Any, call: Callable[..., Any], target: Target) -> Callable[..., Any]:
    """`call` with what torch deems safe computed in 16 bits, where `options: {autocast: bfloat16}` asks for that."""
    kind = target.options.get("autocast")
    if kind is None:
        return call
    if kind not in ("float16", "bfloat16"):
        raise UserError(f"target {target.name}: no such autocast", found=str(kind), expected="float16 or bfloat16")
    dtype, device = getattr(torch, str(kind)), target.device.partition(":")[0]

    def run(*tensors: Any) -> Any:
        with torch.autocast(device, dtype=dtype):
            outputs = call(*tensors)
        return [tensor.float() for tensor in _flatten(outputs)]

    return run


def _is_package(artifact: Path) -> bool:
    """Whether a .pt2 holds compiled code instead of a graph."""
    if not zipfile.is_zipfile(artifact):
        return False
    with zipfile.ZipFile(artifact) as archive:
        return any("/aotinductor/" in name for name in archive.namelist())


def _open_package(artifact: Path, target: Target) -> TorchSession:
    import torch

    try:
        model = torch._inductor.aoti_load_package(str(artifact))
    except RuntimeError as error:
        raise ToolError(f"AOTInductor refuses {artifact}", found=_first_line(error)) from None
    signature = json.loads(model.loader.get_metadata().get(SIGNATURE, "null"))
    if signature is None:
        raise UserError(
            f"{artifact} does not say what it takes",
            found="a package without input names and shapes",
            expected="one compiled by edgepress",
            fix="compile it with edgepress.targets.runtimes.torch_session.compile_ahead",
        )
    specs = {name: InputSpec(*spec) for name, spec in signature["inputs"].items()}
    return TorchSession(model, specs, signature["outputs"], target, "aot")


def _specs(program: Program) -> dict[str, InputSpec]:
    """What the program takes: sizes that are free become `None`."""
    values = [node.meta["val"] for node in program.user_inputs()]
    return {name: _spec(value) for name, value in zip(program.input_names, values, strict=True)}


def _spec(value: torch.Tensor) -> InputSpec:
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return InputSpec(shape, str(value.dtype).removeprefix("torch."))


def _compile_error(error: Exception) -> ToolError:
    text = str(error)
    if "compiler" in text.lower() and "not found" in text.lower():
        return MissingTool("a C++ compiler", needed_for="AOTInductor", install="apt-get install g++")
    return ToolError("AOTInductor could not compile the program", found=_first_line(error))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
