"""Compilers for the cores: arm-none-eabi-gcc where it is installed, else the clang inside the `ziglang` package."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from edgepress.errors import MissingTool, ToolError
from edgepress.targets.emulate.cores import Core

TIMEOUT_S = 300
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Werror")
COMMON = ("-std=c99", "-ffunction-sections", "-fdata-sections", "-fomit-frame-pointer", "-g0")


@dataclass(frozen=True)
class Compiler:
    """A compiler for one core. `name` is gcc or zig; `command` starts every call; `linking`: flags of the last one."""

    name: str
    command: tuple[str, ...]
    flags: tuple[str, ...]
    linking: tuple[str, ...]

    def version(self) -> str:
        return run([*self.command, "--version"]).splitlines()[0]


def find(core: Core, prefer: str = "") -> Compiler:
    """A compiler for that core; `prefer` ("gcc", "zig") names the one to take. Raises MissingTool."""
    finders = {"gcc": _gcc, "zig": _zig}
    order = [prefer] if prefer else ["gcc", "zig"]
    for name in order:
        found = finders[name](core)
        if found is not None:
            return found
    raise MissingTool(
        " or ".join(order),
        needed_for=f"compiling for {core.name}",
        install="pip install ziglang, or apt-get install gcc-arm-none-eabi",
    )


def find_bootable(core: Core) -> Compiler:
    """A compiler whose images qemu boots: gcc; clang where gcc has no flags for the core. Raises MissingTool."""
    return find(core, "gcc" if core.gcc else "zig")


def _gcc(core: Core) -> Compiler | None:
    program = "riscv64-unknown-elf-gcc" if core.riscv else "arm-none-eabi-gcc"
    return Compiler("gcc", (program,), core.gcc, core.gcc) if core.gcc and shutil.which(program) else None


def _zig(core: Core) -> Compiler | None:
    if find_spec("ziglang") is None:
        return None
    # Its own runtime library does not compile with vectors: objects have them, the link does without.
    linking = tuple(flag.replace("+zve32x", "") for flag in core.zig)
    return Compiler("zig", (sys.executable, "-m", "ziglang", "cc"), core.zig, linking)


def run(command: Sequence[str], cwd: Path | None = None) -> str:
    """Run a tool and return its output. Raises ToolError with what it said."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"{command[0]} did not finish", found=f"{TIMEOUT_S} s passed") from error
    if done.returncode:
        raise ToolError(f"{Path(command[0]).name} failed", found=(done.stderr or done.stdout)[-4000:])
    return done.stdout + done.stderr


def link(
    compiler: Compiler,
    sources: Sequence[Path],
    out: Path,
    *,
    script: Path,
    entry: str,
    flags: Sequence[str],
    libraries: Sequence[str] = (),
) -> None:
    """Compile and link sources into a bare image at the addresses of a linker script."""
    extra = ("-nostartfiles",) if compiler.name == "gcc" else ()
    usage = ("-fcallgraph-info=su",) if compiler.name == "gcc" else ()
    base = [*compiler.command, *compiler.flags, *flags]
    objects = []
    for source in sources:
        target = out.parent / f"{source.stem}.o"
        run([*base, *COMMON, *WARNINGS, *usage, "-I", str(source.parent), "-c", str(source), "-o", str(target)])
        objects.append(str(target))
    placement = (f"-Wl,-T,{script}", f"-Wl,-e,{entry}", "-Wl,--gc-sections")
    run([*compiler.command, *compiler.linking, *flags, *placement, *extra, *objects, *libraries, "-o", str(out)])
