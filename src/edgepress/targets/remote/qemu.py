"""AArch64 Linux in user-mode emulation: a Debian file tree, Python, and the arm64 builds of numpy and onnxruntime.

It answers with the real instruction set's results. It says nothing about time.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from edgepress.errors import MissingTool, ToolError, UserError
from edgepress.targets.remote.bundle import bootstrap
from edgepress.targets.remote.channel import ConnectionLost
from edgepress.targets.target import Target

EMULATORS = ("qemu-aarch64-static", "qemu-aarch64")
PREPARE = "python scripts/arm64_tree.py"
PYTHON = "usr/bin/python3.11"

# Core -> (implementer, part, features). onnxruntime picks its kernels by /proc/cpuinfo; claiming a feature that the
# emulated core lacks ends in an illegal instruction.
BASE = "fp asimd evtstrm aes pmull sha1 sha2 crc32"
CORES = {
    "cortex-a53": ("0xd03", BASE),
    "cortex-a72": ("0xd08", BASE),
    "cortex-a76": ("0xd0b", f"{BASE} atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"),
    "neoverse-n1": ("0xd0c", f"{BASE} atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"),
}


def files() -> Path:
    """Where the emulated machine's files lie: $EDGEPRESS_ARM64, or a folder in the user's cache."""
    chosen = os.environ.get("EDGEPRESS_ARM64")
    return Path(chosen) if chosen else Path.home() / ".cache/edgepress/arm64"


def emulator() -> str:
    """The emulator's path; empty if there is none."""
    return next(filter(None, map(shutil.which, EMULATORS)), "")


def command(target: Target) -> tuple[list[str], dict[str, str]]:
    """The command and environment that start a worker on the emulated core.

    Raises:
        UserError: a core that is not known here. MissingTool: the emulator or the files are not installed.
    """
    if target.device not in CORES:
        raise UserError(
            f"target {target.name}: no emulated core {target.device!r}",
            expected=", ".join(CORES),
            fix="change `device:`",
        )
    program = emulator()
    if not program:
        raise MissingTool(
            "qemu-aarch64", needed_for=f"target {target.name}", install="apt-get install qemu-user-static"
        )
    tree, packages = files() / "tree", files() / "packages"
    if not (tree / PYTHON).exists() or not packages.is_dir():
        raise MissingTool(f"an arm64 file tree in {files()}", needed_for=f"target {target.name}", install=PREPARE)
    view = _core_view(tree, files() / "cores" / target.device, target.device)
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(files()), "PYTHONPATH": str(packages)}
    program_text = bootstrap(str(files() / "worker"))
    return [program, "-cpu", target.device, "-L", str(view), str(view / PYTHON), "-c", program_text], environment


def explain(lost: ConnectionLost) -> ToolError:
    """The emulated process ended: there is no line that could have broken."""
    return ToolError("the emulated process ended", found=f"exit {lost.returncode}: {lost.found}")


def _core_view(tree: Path, view: Path, core: str) -> Path:
    """The file tree as a program on this core sees it: the same files, and a /proc/cpuinfo of its own.

    Without one, emulated programs would read this machine's. One view per core, so that two cores can run at a time.
    """
    (view / "proc").mkdir(parents=True, exist_ok=True)
    for entry in tree.iterdir():
        if entry.name != "proc":
            _link(view / entry.name, entry.resolve())
    partial = view / f"cpuinfo-{os.getpid()}"
    partial.write_text(_cpuinfo(core))
    partial.replace(view / "proc/cpuinfo")
    return view


def _link(path: Path, to: Path) -> None:
    try:
        path.symlink_to(to)
    except FileExistsError:  # made by an earlier run, or by another one just now
        return


def _cpuinfo(core: str) -> str:
    part, features = CORES[core]
    return (
        "processor\t: 0\nBogoMIPS\t: 100.00\n"
        f"Features\t: {features}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
        f"CPU variant\t: 0x1\nCPU part\t: {part}\nCPU revision\t: 0\n\n"
    )
