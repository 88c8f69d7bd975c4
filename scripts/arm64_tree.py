"""Fetch what the target `arm64-qemu` runs on: a Debian arm64 file tree with Python, and arm64 wheels of numpy and
onnxruntime. Needs apt-get, dpkg and pip, but no root: packages are unpacked, never installed.

    python scripts/arm64_tree.py [FOLDER]        (default: where the target looks for it)

About 50 MB to download and 190 MB on disk. The package lists that apt fetches for it are removed again.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from edgepress.targets.remote import qemu

DEBIAN_PACKAGES = ("python3.11-minimal", "libpython3.11-stdlib", "libstdc++6", "libc6", "libgcc-s1")
WHEELS = ("onnxruntime", "numpy")
# pip takes the newest wheel that one of these allows.
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
SUITE = "bookworm"
SOURCE = f"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian {SUITE} main\n"


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else qemu.files()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        unpack_debian(Path(temporary), folder / "tree")
        unpack_wheels(Path(temporary), folder / "packages")
    print(f"ready in {folder}")
    return 0


def unpack_debian(temporary: Path, tree: Path) -> None:
    """Download the packages with everything they depend on, with an apt that knows nothing of this system."""
    options = private_apt(temporary)
    run("apt-get", *options, "update", "-qq")
    run("apt-get", *options, "install", "-y", "-qq", "--no-install-recommends", "--download-only", *DEBIAN_PACKAGES)
    tree.mkdir(exist_ok=True)
    for package in sorted((temporary / "cache/archives").glob("*.deb")):
        run("dpkg-deb", "-x", str(package), str(tree))


def private_apt(temporary: Path) -> list[str]:
    for name in ("state/lists/partial", "cache/archives/partial", "etc/sources.d", "etc/preferences.d"):
        (temporary / name).mkdir(parents=True)
    (temporary / "sources.list").write_text(SOURCE)
    (temporary / "status").touch()
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "Dir::Etc::SourceList": temporary / "sources.list",
        "Dir::Etc::SourceParts": temporary / "etc/sources.d",
        "Dir::State": temporary / "state",
        "Dir::State::status": temporary / "status",
        "Dir::Cache": temporary / "cache",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root",
        "Debug::NoLocking": "true",
        "DPkg::Post-Invoke": "",
        "APT::Keep-Downloaded-Packages": "true",
    }
    return [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]


def unpack_wheels(temporary: Path, packages: Path) -> None:
    wheels = temporary / "wheels"
    platforms = [part for name in PLATFORMS for part in ("--platform", name)]
    run(
        sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:", "--python-version", "3.11",
        "--implementation", "cp", "--abi", "cp311", *platforms, "--dest", str(wheels), *WHEELS,
    )  # fmt: skip
    shutil.rmtree(packages, ignore_errors=True)
    for wheel in sorted(wheels.glob("*.whl")):
        shutil.unpack_archive(wheel, packages, "zip")


def run(*command: str) -> None:
    subprocess.run(command, check=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


if __name__ == "__main__":
    sys.exit(main())
