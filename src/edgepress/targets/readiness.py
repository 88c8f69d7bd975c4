"""What a target still lacks on this machine, and how to get it. Nothing is imported or started to find out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from edgepress.targets.remote import qemu
from edgepress.targets.target import Target


class Lack(NamedTuple):
    """A thing that is needed and not there, and the command or edit that brings it."""

    what: str
    fix: str


# Runtime -> (module, how to install it).
MODULES = {
    "onnxruntime": ("onnxruntime", "pip install onnxruntime"),
    "openvino": ("openvino", "pip install 'edgepress[openvino]'"),
    "torch": ("torch", "pip install torch"),
    "tensorrt": ("tensorrt", "pip install 'edgepress[tensorrt]'"),
}


def lacks(target: Target, *, root: Path = Path("/")) -> tuple[Lack, ...]:
    """Everything that stands between this machine and `target`; empty if it can be used.

    For ssh targets this is about this side only: the far side is asked when it is used.
    """
    found = {"local": _local, "ssh": _ssh, "qemu-arm64": _qemu, "mcu": _microcontroller}[target.kind]
    return tuple(found(target, root))


def _local(target: Target, root: Path) -> Iterator[Lack]:
    if target.runtime in MODULES:
        module, install = MODULES[target.runtime]
        if find_spec(module) is None:
            yield Lack(module, install)
    if target.device.startswith(("cuda", "tensorrt")):
        yield from _nvidia(root)
        yield from _built_for_gpus(target)
    if target.runtime == "torch" and target.options.get("mode", "eager") != "eager" and not _compiler():
        yield Lack("a C++ compiler", "apt-get install g++")


def _nvidia(root: Path) -> Iterator[Lack]:
    if not (root / "proc/driver/nvidia/version").exists():
        yield Lack("an NVIDIA GPU with its driver", "use a machine that has one, or a target with device cpu")


def _built_for_gpus(target: Target) -> Iterator[Lack]:
    """The runtime may be there without its support for GPUs: another package, or another build of it."""
    if target.runtime == "onnxruntime" and _version("onnxruntime-gpu") is None:
        yield Lack("onnxruntime for GPUs", "pip uninstall onnxruntime; pip install 'onnxruntime-gpu[cuda,cudnn]'")
    if target.runtime in ("torch", "tensorrt") and (_version("torch") or "+cpu").endswith("+cpu"):
        yield Lack("torch for CUDA", "pip install --force-reinstall torch")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _compiler() -> bool:
    return any(map(shutil.which, ("g++", "clang++", "c++")))


def _ssh(target: Target, root: Path) -> Iterator[Lack]:
    if shutil.which("ssh") is None:
        yield Lack("ssh", "apt-get install openssh-client")
    if target.remote is None or not target.remote.host:
        yield Lack("the host's name", "set remote.host in a copy of the target file")


def _qemu(target: Target, root: Path) -> Iterator[Lack]:
    if not any(map(shutil.which, qemu.EMULATORS)):
        yield Lack("qemu-aarch64", "apt-get install qemu-user-static")
    if not (qemu.files() / "tree" / qemu.PYTHON).exists():
        yield Lack("an arm64 file tree", qemu.PREPARE)


def _microcontroller(target: Target, root: Path) -> Iterator[Lack]:
    if find_spec("ziglang") is None and shutil.which("arm-none-eabi-gcc") is None:
        yield Lack("a cross compiler", "pip install 'edgepress[edge]'")
