"""What happens to a run when the world is unkind: kill -9, a full disk, damaged checkpoints."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from edgepress.errors import ExitCode, ToolError, UserError
from edgepress.train import checkpoint
from edgepress.train.checkpoint import Checkpoint

SCRIPT = Path(__file__).with_name("long_run.py")
ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.Popen(command, env=ENV, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(*arguments: object) -> dict[str, str]:
    """Run to the end; the last words of each kind of line."""
    out, err = start(*arguments).communicate(timeout=300)
    assert "digest" in out, err
    return dict(line.rsplit(" ", 1) for line in out.splitlines())


@pytest.mark.slow
def test_killed_twice_and_resumed_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    whole = finish(tmp_path / "whole")
    for least in (100, 400):
        process = start(tmp_path / "torn")
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step") and int(line.split()[1]) >= least:
                break
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
        assert process.returncode == -signal.SIGKILL
    resumed = finish(tmp_path / "torn")
    assert int(resumed["resumed at"]) >= 384
    assert resumed["digest"] == whole["digest"]
    assert not list((tmp_path / "torn").glob("*.partial"))


@pytest.mark.slow
def test_a_full_disk_is_said_clearly_and_costs_nothing(tmp_path: Path) -> None:
    process = start(tmp_path, 20_000)
    _, err = process.communicate(timeout=300)
    assert process.returncode == ExitCode.TOOL_FAILED
    assert "cannot write" in err
    assert "fix: free some space" in err
    assert not list(tmp_path.glob("*.partial"))


def test_a_failed_write_leaves_the_earlier_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    checkpoint.write(path, Checkpoint({"a": torch.ones(3)}, {"step": 1}))
    (tmp_path / "last.partial").mkdir()  # the place the next one would be written to cannot be opened
    with pytest.raises(ToolError, match="cannot write"):
        checkpoint.write(path, Checkpoint({"a": torch.zeros(3)}, {"step": 2}))
    kept = checkpoint.read(path)
    assert kept is not None
    assert kept.facts == {"step": 1}
    assert torch.equal(kept.tensors["a"], torch.ones(3))


def test_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    assert checkpoint.read(path) is None
    checkpoint.write(path, Checkpoint({"a": torch.ones(3)}, {}))
    whole = path.read_bytes()
    for damage in (whole[:20], b"", whole.replace(b"edgepress", b"something")):
        path.write_bytes(damage)
        with pytest.raises(UserError, match="is no checkpoint"):
            checkpoint.read(path)


def test_tied_tensors_survive(tmp_path: Path) -> None:
    shared = torch.arange(4.0)
    checkpoint.write(tmp_path / "c.safetensors", Checkpoint({"a": shared, "b": shared}, {}))
    back = checkpoint.read(tmp_path / "c.safetensors")
    assert back is not None
    assert torch.equal(back.tensors["a"], back.tensors["b"])
