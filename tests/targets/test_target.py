"""Target files: the ready-made ones load, and what is wrong with a file is said plainly."""

import subprocess
import sys
from pathlib import Path

import pytest

from edgepress import targets
from edgepress.errors import UserError
from edgepress.targets.capability import load_capability
from edgepress.targets.target import READY_MADE


@pytest.mark.parametrize("name", targets.ready_made())
def test_every_ready_made_target_loads_and_explains_itself(name: str) -> None:
    target = targets.load(name)
    assert target.name == name
    assert target.description


@pytest.mark.parametrize("name", targets.ready_made())
def test_every_ready_made_target_names_a_capability_table(name: str) -> None:
    assert load_capability(targets.load(name).capability).rules


def test_ready_made_covers_the_promised_places() -> None:
    promised = {"local-cpu", "x86-vnni", "x86-avx2", "raspberry-pi-4", "raspberry-pi-5", "jetson-orin", "cuda"}
    assert promised | {"openvino-cpu", "arm64-qemu", "tensorrt"} <= set(targets.ready_made())


def test_a_file_is_loaded_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "bench.yaml"
    file.write_text("name: bench\ncapability: onnxruntime-cpu\nthreads: 3\noptions: {mode: eager}\n")
    target = targets.load(file)
    assert (target.name, target.threads, target.options["mode"]) == ("bench", 3, "eager")


def test_an_unknown_name_gets_the_nearest_ones() -> None:
    with pytest.raises(UserError) as caught:
        targets.load("rasberry-pi5")
    assert "raspberry-pi-5" in caught.value.fix


def test_a_name_like_no_other_gets_the_listing() -> None:
    with pytest.raises(UserError, match="no target 'zzzz'") as caught:
        targets.load("zzzz")
    assert "local-cpu" in caught.value.expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["an empty file", "a mapping"]),
        ("- a\n", ["a list"]),
        ("name: [", ["not YAML"]),
        ("name: a\ncapability: b\nthread: 2\n", ["thread", "did you mean 'threads'"]),
        ("name: a\ncapability: b\nlimits: {memory: 2}\n", ["limits.memory", "memory_bytes"]),
        ("name: a\ncapability: b\nqqqqq: 2\n", ["remove 'qqqqq'"]),
        ("name: a\n", ["capability", "nothing", "Field required"]),
        ("name: a\ncapability: b\nthreads: 0\n", ["threads", "found: 0", "greater than or equal to 1"]),
        ("name: a\ncapability: b\nruntime: tflite\n", ["runtime", "'tflite'", "onnxruntime"]),
        ("name: a\ncapability: b\nkind: ssh\n", ["remote", "host"]),
        ("name: a\ncapability: b\nremote: {host: x}\n", ["`remote:` belongs to kind ssh"]),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, words: list[str]) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        targets.load(file)
    message = str(caught.value)
    assert str(file) in message
    assert all(word in message for word in words), message


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(UserError, match="not YAML"):
        targets.load(file)


def test_loading_a_target_needs_neither_torch_nor_a_runtime() -> None:
    program = (
        "import sys; from edgepress import targets; targets.load('local-cpu');"
        "heavy = {'torch', 'onnxruntime', 'numpy', 'openvino'} & set(sys.modules); sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_ready_made_files_do_not_repeat_their_name() -> None:
    assert not [path for path in READY_MADE.glob("*.yaml") if path.read_text().startswith("name:")]
