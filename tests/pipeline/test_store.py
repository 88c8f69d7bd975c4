"""The run store: results are found again, damage is noticed, two runs keep apart, and a bad disk breaks nothing."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepress.errors import ExitCode, ToolError, UserError
from edgepress.pipeline.atomic import TEMPORARY, disk_errors, write_bytes
from edgepress.pipeline.digest import code_digest, data_digest, folder_digests, tool_versions
from edgepress.pipeline.store import BEST, LOCK, LOG, MANIFEST, RunStore


def make(store: RunStore, kind: str = "prune", content: bytes = b"weights", **parts: object) -> Path:
    slot = store.step(kind, {"input": "abc", **parts})
    if found := slot.load():
        return found
    with slot.write() as folder:
        (folder / "weights.bin").write_bytes(content)
    assert slot.load() == slot.path
    return slot.path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with RunStore(tmp_path / "run") as opened:
        yield opened


def test_a_result_is_found_by_the_next_run(tmp_path: Path) -> None:
    with RunStore(tmp_path / "run") as first:
        made = make(first)
    with RunStore(tmp_path / "run") as second:
        assert second.step("prune", {"input": "abc"}).load() == made
        assert not second.notes
    assert made.name.startswith("00-prune-")
    assert json.loads((made / MANIFEST).read_bytes())["files"] == {"weights.bin": folder_digests(made)["weights.bin"]}


def test_what_decides_the_result_decides_the_key(store: RunStore) -> None:
    slots = [store.step("prune", parts) for parts in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1, "b": 3})]
    assert slots[0].key == slots[1].key != slots[2].key
    assert store.step("train", {"a": 1, "b": 2}).key != slots[0].key
    assert slots[0].key_parts["code"] == code_digest()
    assert slots[0].key_parts["tools"]["torch"] == tool_versions(["torch"])["torch"] is not None
    assert tool_versions(["no-such-package"]) == {"no-such-package": None}


def test_only_plain_data_makes_a_key(store: RunStore) -> None:
    with pytest.raises(TypeError):
        store.step("prune", {"model": object()})
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.step("prune", {"lr": float("nan")})


def test_the_digest_of_a_result_depends_on_its_files_alone(store: RunStore) -> None:
    digests = []
    for content, epochs in ((b"same", 1), (b"same", 2), (b"other", 3)):
        slot = store.step("train", {"epochs": epochs})
        with slot.write() as folder:
            (folder / "weights.bin").write_bytes(content)
        digests.append(slot.digest())
    assert digests[0] == digests[1] != digests[2]


def test_a_failed_step_leaves_nothing(store: RunStore) -> None:
    slot = store.step("prune", {})
    with pytest.raises(RuntimeError, match="no gradient"), slot.write() as folder:
        (folder / "half.bin").write_bytes(b"half")
        raise RuntimeError("no gradient")
    assert slot.load() is None
    assert list((store.root / "steps").iterdir()) == []


def test_an_interrupted_step_leaves_nothing(store: RunStore) -> None:
    slot = store.step("prune", {})
    with pytest.raises(KeyboardInterrupt), slot.write():
        raise KeyboardInterrupt
    assert list((store.root / "steps").iterdir()) == []


def test_links_are_no_results(store: RunStore) -> None:
    slot = store.step("prune", {})
    with pytest.raises(ValueError, match="plain files"), slot.write() as folder:
        (folder / "link").symlink_to("/etc/hostname")
    assert slot.load() is None


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "a flipped bit": lambda result: flip(result / "weights.bin"),
    "a file cut short": lambda result: (result / "weights.bin").write_bytes(b"weig"),
    "a file missing": lambda result: (result / "weights.bin").unlink(),
    "a file too many": lambda result: (result / "other.bin").write_bytes(b""),
    "a link": lambda result: (result / "other.bin").symlink_to("weights.bin"),
    "no manifest": lambda result: (result / MANIFEST).unlink(),
    "half a manifest": lambda result: (result / MANIFEST).write_text('{"files": {'),
    "another manifest": lambda result: (result / MANIFEST).write_text('{"files": 3, "key": 4}'),
    "the manifest of another key": lambda result: (result / MANIFEST).write_text('{"files": {}, "key": "0"}'),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_result_is_noticed_and_made_anew(tmp_path: Path, damage) -> None:
    with RunStore(tmp_path / "run") as store:
        before = folder_digests(made := make(store))
        damage(made)
    with RunStore(tmp_path / "run") as store:
        assert folder_digests(make(store)) == before
        assert "00-prune" in store.notes[0]
        assert [event["event"] for event in store.events()] == ["damaged"]
    with RunStore(tmp_path / "run") as store:
        make(store)
        assert not store.notes


def test_the_best_result_is_a_complete_one(store: RunStore) -> None:
    assert store.best() is None
    first = make(store)
    store.set_best(first, {"accuracy": 0.9})
    assert store.best() == first
    (first / MANIFEST).unlink()
    assert store.best() is None
    (store.root / BEST).write_text("[]")
    assert store.best() is None


def test_checkpoints_survive_until_the_step_is_done(tmp_path: Path) -> None:
    with RunStore(tmp_path / "run") as store:
        (store.scratch(store.step("train", {"epochs": 3})) / "last.bin").write_bytes(b"epoch 1")
    with RunStore(tmp_path / "run") as store:
        slot = store.step("train", {"epochs": 3})
        assert (store.scratch(slot) / "last.bin").read_bytes() == b"epoch 1"
        assert list(store.scratch(store.step("train", {"epochs": 4})).iterdir()) == []
        store.clear_scratch(slot)
        assert not list(store.root.rglob("last.bin"))


def test_the_log_survives_a_line_that_was_cut_short(store: RunStore) -> None:
    store.log("first", n=1)
    with (store.root / LOG).open("ab") as file:
        file.write(b'{"event": "tor')
    store.log("second")
    assert [event["event"] for event in store.events()] == ["first", "second"]


def test_leftovers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    with RunStore(tmp_path / "run") as store:
        made = make(store)
        store.put("report.html", "<html>")
        (store.root / "steps" / f"{TEMPORARY}01-train-000").mkdir()
        (store.root / f"{TEMPORARY}report.html").write_text("<ht")
    with RunStore(tmp_path / "run") as store:
        assert made.exists()
        assert not list(store.root.rglob(f"{TEMPORARY}*"))
        assert (store.root / "report.html").read_text() == "<html>"


def test_two_runs_in_one_directory_are_kept_apart(store: RunStore) -> None:
    with pytest.raises(UserError) as caught:
        RunStore(store.root)
    assert str(os.getpid()) in str(caught.value)
    assert caught.value.exit_code is ExitCode.WRONG_USE
    make(store)  # the first one is not disturbed


HOLD = "import sys, time; from pathlib import Path; from edgepress.pipeline.store import RunStore; "


def test_the_lock_names_the_other_process_and_dies_with_it(tmp_path: Path) -> None:
    root = tmp_path / "run"
    hold = HOLD + "store = RunStore(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", hold, root], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"process {process.pid}"):
            RunStore(root)
    finally:
        process.kill()
        process.wait(timeout=60)
    RunStore(root).close()


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    root = tmp_path / "run"
    orphan = (
        HOLD + "import os, signal\n"
        "store = RunStore(Path(sys.argv[1]))\n"
        "child = os.fork()\n"
        "if child == 0: print(os.getpid(), flush=True); time.sleep(60)\n"
        "else: time.sleep(0.2); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", orphan, root], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        process.wait(timeout=60)
        os.kill(child, 0)  # it lives on
        RunStore(root).close()
    finally:
        os.kill(child, 9)


def test_a_folder_with_other_things_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"thesis\.tex"):
        RunStore(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_places_where_no_directory_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/run"), tmp_path / ("x" * 300)):
        with pytest.raises(UserError, match="cannot be written") as caught:
            RunStore(place)
        assert caught.value.found


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB, where the right to mount one is given."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
        mounted = subprocess.run(mount, capture_output=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if mounted.returncode:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True, timeout=60)


def fill_up(folder: Path) -> None:
    (folder / "big.bin").write_bytes(bytes(2 * 2**20))


def in_words_of_a_library(folder: Path) -> None:
    try:
        fill_up(folder)
    except OSError:
        raise RuntimeError("file write failed") from None


@pytest.mark.parametrize("body", [fill_up, in_words_of_a_library])
def test_a_full_disk_is_told_and_damages_nothing(tiny_disk: Path, body) -> None:
    with RunStore(tiny_disk / "run") as store:
        made = make(store, content=bytes(1000))
        before = folder_digests(made)
        slot = store.step("train", {})
        with pytest.raises(ToolError, match="disk is full") as caught, slot.write() as folder:
            body(folder)
        assert caught.value.exit_code is ExitCode.TOOL_FAILED
        assert "finished steps are kept" in caught.value.fix
        assert slot.load() is None
        assert folder_digests(made) == before
        make(store, kind="export")  # there is room again


def test_a_disk_full_of_other_things_is_told(tiny_disk: Path) -> None:
    with RunStore(tiny_disk / "run") as store:
        store.put("report.html", "old")
        with (tiny_disk / "other").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(bytes(4096))
        with pytest.raises(ToolError, match="disk is full"):
            store.put("report.html", "x" * 100_000)
        with pytest.raises(ToolError, match="disk is full"):
            make(store)
        assert (store.root / "report.html").read_text() == "old"


def test_a_read_only_disk_is_told(tiny_disk: Path) -> None:
    RunStore(tiny_disk / "run").close()
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True, timeout=60)
    for place in (tiny_disk / "run", tiny_disk / "new"):
        with pytest.raises(UserError, match="cannot be written") as caught:
            RunStore(place)
        assert "Read-only" in caught.value.found


def test_a_limit_on_file_size_is_told(store: RunStore) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    slot = store.step("train", {})
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(ToolError, match="cannot be written"), slot.write() as folder:
            (folder / "big.bin").write_bytes(bytes(20_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((store.root / "steps").iterdir()) == []


def test_errors_about_other_files_pass_through(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), disk_errors(tmp_path):
        raise PermissionError(13, "Permission denied", "/data/train.npz")
    with pytest.raises(UserError), disk_errors(tmp_path):
        raise PermissionError(13, "Permission denied", str(tmp_path / "x"))
    with pytest.raises(ToolError, match="disk failed"), disk_errors(tmp_path):
        raise OSError(5, "Input/output error")


def test_a_file_is_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_bytes(path, b"one")
    write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_the_order_of_keys_does_not_matter() -> None:
    assert data_digest({"a": 1, "b": [2]}) == data_digest({"b": [2], "a": 1}) != data_digest({"a": 1, "b": [3]})


def test_the_directory_holds_what_the_documentation_says(store: RunStore) -> None:
    make(store)
    assert {entry.name for entry in store.root.iterdir()} == {LOCK, "steps"}


def test_the_store_does_not_import_torch() -> None:
    program = HOLD + "assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
