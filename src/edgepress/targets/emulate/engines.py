"""Running a built image: in unicorn (pip only, in a child process) or in qemu-system with the counting plugin."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgepress.errors import MissingTool, ToolError
from edgepress.targets.emulate import build as building
from edgepress.targets.emulate import toolchain
from edgepress.targets.emulate.cores import Core
from edgepress.targets.emulate.cycles import Block

STACK_BYTES = 16384
TIMEOUT_S = 900
HERE = Path(__file__).parent
PACKAGE_ROOT = HERE.parents[2]


@dataclass(frozen=True)
class Job:
    """What to run: an artifact folder with its manifest, on a core, with inputs in `work/inputs.bin`."""

    folder: Path
    manifest: dict[str, Any]
    core: Core
    work: Path
    vectors: int
    counted: int
    by_layer: bool = False


@dataclass(frozen=True)
class Outcome:
    """outputs: n * output bytes. blocks: what ran during the counted inferences. layer_outputs: if asked for."""

    outputs: bytes
    blocks: tuple[Block, ...]
    stack_bytes: int
    layer_outputs: bytes = b""


def unicorn_why_not(core: Core) -> str:
    """Why unicorn cannot run this core, "" if it can."""
    if not core.unicorn:
        return f"unicorn has no {core.name}"
    return "" if find_spec("unicorn") else "unicorn is not installed (pip install 'edgepress[edge]')"


def qemu_why_not(core: Core) -> str:
    """Why qemu-system cannot run this core here, "" if it can."""
    program = _qemu(core)
    missing = [tool for tool in (program, "gcc") if not shutil.which(tool)]
    if missing:
        return f"{', '.join(missing)} not installed"
    try:
        toolchain.find_bootable(core)
    except MissingTool as error:
        return str(error.what)
    return ""


def _qemu(core: Core) -> str:
    return "qemu-system-riscv32" if core.riscv else "qemu-system-arm"


def run_unicorn(job: Job, image: building.Build) -> Outcome:
    """Run in unicorn, in a child process (its library is GPL-2.0)."""
    spec = {
        "image": str(image.path),
        "core": job.core.name,
        "arena_bytes": job.manifest["arena_bytes"],
        "stack_bytes": STACK_BYTES,
        "steps": _steps(job),
        "layers": [layer["function"] for layer in job.manifest["layers"] if layer["function"]],
        "inputs": [[border["offset"], border["bytes"]] for border in job.manifest["inputs"]],
        "outputs": [[border["offset"], border["bytes"]] for border in job.manifest["outputs"]],
        "vectors": job.vectors,
        "counted": job.counted,
    }
    (job.work / "job.json").write_text(json.dumps(spec))
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)}
    _child([sys.executable, "-m", "edgepress.targets.emulate.unicorn_child", str(job.work)], job.work, environment)
    counts = json.loads((job.work / "counts.json").read_text())
    blocks = tuple(Block(*row) for row in counts["blocks"])
    outputs, steps = ((job.work / f"{name}.bin").read_bytes() for name in ("outputs", "steps"))
    return Outcome(outputs, blocks, counts["stack_bytes"], steps)


def _steps(job: Job) -> list[tuple[str, int, int]]:
    """(function, offset, bytes to read after it) of one inference."""
    if not job.by_layer:
        return [(f"{job.manifest['name']}_run", 0, 0)]
    live = [layer for layer in job.manifest["layers"] if layer["function"]]
    return [(layer["function"], layer["output"]["offset"], layer["output"]["bytes"]) for layer in live]


def run_qemu(job: Job, image: building.Build) -> Outcome:
    """Boot in qemu-system; blocks are counted by our plugin."""
    plugin = job.work / "counter.so"
    toolchain.run(["gcc", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-o", str(plugin), str(HERE / "counter.c")])
    symbols = image.image.symbols
    functions = [layer["function"] for layer in job.manifest["layers"] if layer["function"] in symbols]
    arguments = [f"out={job.work / 'blocks.txt'}", f"runs={job.counted}", f"stop={symbols['edgepress_done']}"]
    arguments += [f"start={symbols[job.manifest['name'] + '_run']}", *(f"layer={symbols[name]}" for name in functions)]
    command = [_qemu(job.core), "-M", job.core.machine, "-nographic", "-monitor", "none", "-serial", "none"]
    command += ["-bios", "none"] if job.core.riscv else []
    command += ["-cpu", job.core.cpu] if job.core.cpu else []
    command += ["-semihosting-config", "enable=on,target=native", "-plugin", ",".join([str(plugin), *arguments])]
    _child([*command, "-kernel", str(image.path)], job.work, dict(os.environ))
    rows = [[int(word) for word in line.split()] for line in (job.work / "blocks.txt").read_text().splitlines()]
    blocks = tuple(Block(functions[layer] if layer >= 0 else "", *rest) for layer, *rest in rows)
    raw = (job.work / "outputs.bin").read_bytes()
    return Outcome(raw[:-4], blocks, int.from_bytes(raw[-4:], "little"))


def _child(command: list[str], work: Path, environment: dict[str, str]) -> None:
    try:
        done = subprocess.run(
            command, cwd=work, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"{Path(command[0]).name} did not finish", found=f"{TIMEOUT_S} s passed") from error
    if done.returncode:
        raise ToolError(
            f"the emulated run failed in {Path(command[0]).name}",
            found=f"exit {done.returncode}: {done.stderr[-2000:]}",
        )
