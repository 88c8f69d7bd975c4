"""The same build through NVIDIA's command line tool, where its binaries are installed and the Python module is not."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from edgepress.errors import MissingTool, ToolError
from edgepress.exporters.tensorrt.options import EngineOptions, Shape

PROGRAM = "trtexec"
HARDWARE = {"same-compute-capability": "sameComputeCapability", "ampere+": "ampere+"}
TIMEOUT_S = 3600


def command(source: Path, engine: Path, options: EngineOptions, layers: Path) -> list[str]:
    """The command that builds `engine` from `source` and writes what the engine inspector says to `layers`."""
    flags = [
        f"--onnx={source}",
        f"--saveEngine={engine}",
        "--stronglyTyped",  # always on in 11, where the flag is still accepted
        "--skipInference",
        f"--memPoolSize=workspace:{options.workspace_mib}",
        f"--builderOptimizationLevel={options.optimization_level}",
        "--profilingVerbosity=detailed",
        f"--exportLayerInfo={layers}",
    ]
    if options.profiles:
        shapes = {"minShapes": "least", "optShapes": "best", "maxShapes": "most"}
        for flag, which in shapes.items():
            texts = (f"{name}:{_text(getattr(profile, which))}" for name, profile in options.profiles.items())
            flags.append(f"--{flag}={','.join(texts)}")
    if options.timing_cache is not None:
        flags.append(f"--timingCacheFile={options.timing_cache}")
    if options.version_compatible:
        flags.append("--versionCompatible")
    if options.hardware in HARDWARE:
        flags.append(f"--hardwareCompatibilityLevel={HARDWARE[options.hardware]}")
    if options.refit:
        flags.append("--refit")
    return [PROGRAM, *flags]


def run(arguments: list[str]) -> None:
    """Run it.

    Raises:
        MissingTool: it is not on the PATH. ToolError: it fails; with the last error it printed.
    """
    if shutil.which(arguments[0]) is None:
        raise MissingTool(
            "tensorrt or trtexec", needed_for="building an engine", install="pip install 'edgepress[tensorrt]'"
        )
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise ToolError(f"trtexec did not finish in {TIMEOUT_S} s") from None
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).splitlines()
        errors = [line for line in lines if "[E]" in line] or lines[-1:] or [f"exit status {done.returncode}"]
        raise ToolError("trtexec could not build the engine", found=errors[-1].strip())


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape))
