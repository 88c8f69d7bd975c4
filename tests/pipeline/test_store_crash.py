"""kill -9 at any moment: what is on disk stays whole, and the resumed run ends with the same bytes."""

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgepress.pipeline.atomic import TEMPORARY
from edgepress.pipeline.digest import folder_digests
from edgepress.pipeline.store import BEST, MANIFEST

DRIVER = Path(__file__).with_name("store_driver.py")


def drive(root: Path, *options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(DRIVER), str(root), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def artifacts(root: Path) -> dict[str, str]:
    """Digest of every file but the lock and the log (the only ones that name processes and times)."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file() and path.name not in {"run.lock", "log.jsonl"})
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def assert_whole(root: Path) -> None:
    """Every result that has its final name is complete, and `best` names one of them."""
    steps = root / "steps"
    for result in steps.iterdir() if steps.exists() else ():
        if not result.name.startswith(TEMPORARY):
            manifest = json.loads((result / MANIFEST).read_bytes())
            found = folder_digests(result)
            found.pop(MANIFEST)
            assert found == manifest["files"]
    if (root / BEST).exists():
        assert (root / json.loads((root / BEST).read_bytes())["result"] / MANIFEST).is_file()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], int]:
    """(artifacts, number of touches) of a run that nobody disturbed."""
    root = tmp_path_factory.mktemp("runs") / "whole"
    done = drive(root)
    assert done.returncode == 0, done.stderr
    return artifacts(root), int(done.stdout.split()[-1])


def kill_and_resume(root: Path, moment: int, expected: dict[str, str]) -> None:
    killed = drive(root, "--kill-at", moment)
    assert killed.returncode == -signal.SIGKILL
    assert_whole(root)
    resumed = drive(root)
    assert resumed.returncode == 0, resumed.stderr
    finished = [line.split()[1] for line in killed.stdout.splitlines()]
    assert [f"reused {kind}" for kind in finished] == resumed.stdout.splitlines()[: len(finished)]
    assert artifacts(root) == expected


def test_two_undisturbed_runs_give_the_same_bytes(tmp_path: Path, uninterrupted: tuple[dict[str, str], int]) -> None:
    assert drive(tmp_path / "again").returncode == 0
    assert artifacts(tmp_path / "again") == uninterrupted[0]
    assert uninterrupted[1] > 100


@pytest.mark.parametrize("sixteenth", range(16))
def test_killed_and_resumed(tmp_path: Path, uninterrupted: tuple[dict[str, str], int], sixteenth: int) -> None:
    expected, touches = uninterrupted
    kill_and_resume(tmp_path / "run", 1 + sixteenth * (touches - 1) // 15, expected)


@pytest.mark.slow
def test_killed_at_every_touch_of_the_disk(tmp_path: Path, uninterrupted: tuple[dict[str, str], int]) -> None:
    expected, touches = uninterrupted
    for moment in range(1, touches + 1):
        kill_and_resume(tmp_path / str(moment), moment, expected)


def test_killed_again_and_again_from_outside(tmp_path: Path, uninterrupted: tuple[dict[str, str], int]) -> None:
    root, chance = tmp_path / "run", random.Random(0)
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, str(DRIVER), str(root), "--pause", "0.004"], stdout=subprocess.DEVNULL
        )
        time.sleep(0.15 + 0.4 * chance.random())
        process.kill()
        process.wait(timeout=60)
        assert_whole(root)
    assert drive(root).returncode == 0
    assert artifacts(root) == uninterrupted[0]


def test_leftovers_of_a_killed_run_are_removed_by_the_next(tmp_path: Path) -> None:
    leftovers = 0
    for moment in range(20, 60, 8):
        root = tmp_path / str(moment)
        drive(root, "--kill-at", moment)
        leftovers += len(list(root.rglob(f"{TEMPORARY}*")))
        assert drive(root).returncode == 0
        assert not list(root.rglob(f"{TEMPORARY}*"))
    assert leftovers
