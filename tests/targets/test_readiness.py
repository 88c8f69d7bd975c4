"""What a target lacks here is named together with the way to get it."""

from pathlib import Path

import pytest

from edgepress import targets
from edgepress.targets import readiness
from edgepress.targets.readiness import lacks


@pytest.mark.parametrize("name", targets.ready_made())
def test_every_lack_comes_with_a_fix(name: str) -> None:
    assert all(lack.what and lack.fix for lack in lacks(targets.load(name)))


def test_the_local_cpu_lacks_nothing() -> None:
    assert lacks(targets.load("local-cpu")) == ()


def test_a_gpu_is_found_by_its_driver(tmp_path: Path) -> None:
    cuda = targets.load("cuda")
    assert "an NVIDIA GPU with its driver" in [lack.what for lack in lacks(cuda, root=tmp_path)]
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").touch()
    assert "an NVIDIA GPU with its driver" not in [lack.what for lack in lacks(cuda, root=tmp_path)]


@pytest.mark.parametrize(
    ("name", "package", "build", "what"),
    [
        ("cuda", "onnxruntime-gpu", None, ["onnxruntime for GPUs"]),
        ("cuda", "onnxruntime-gpu", "1.31.1", []),
        ("torch-eager", "torch", "2.13.0+cpu", ["torch for CUDA"]),
        ("torch-eager", "torch", "2.13.0", []),
    ],
)
def test_a_runtime_without_its_part_for_gpus(
    name: str, package: str, build: str | None, what: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").touch()
    monkeypatch.setattr(readiness, "_version", lambda asked: build if asked == package else "1.0")
    gpu = targets.load(name).model_copy(update={"device": "cuda:0"})
    assert [lack.what for lack in lacks(gpu, root=tmp_path)] == what


def test_a_runtime_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(readiness.MODULES, "openvino", ("no_such_module", "pip install it"))
    assert lacks(targets.load("openvino-cpu")) == (("no_such_module", "pip install it"),)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("raspberry-pi-5", ["ssh"]),
        ("torch-compile", ["a C++ compiler"]),
    ],
)
def test_programs_are_looked_for_on_the_path(
    name: str, words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [lack.what for lack in lacks(targets.load(name))] == words


def test_emulation_needs_qemu_and_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("EDGEPRESS_ARM64", str(tmp_path))
    emulated = targets.load("arm64-qemu")
    assert [lack.what for lack in lacks(emulated)] == ["qemu-aarch64", "an arm64 file tree"]
    python = tmp_path / "tree/usr/bin/python3.11"
    python.parent.mkdir(parents=True)
    python.touch()
    assert [lack.what for lack in lacks(emulated)] == ["qemu-aarch64"]


def test_a_board_without_a_name() -> None:
    target = targets.load("raspberry-pi-5")
    nameless = target.model_copy(update={"remote": targets.Remote()})
    assert [lack.what for lack in lacks(nameless)][-1:] == ["the host's name"]
