"""Trainings that go wrong, through real processes: the exit code, the words, and what is left on the disk."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from tests.pipeline.conftest import make_project

Run = Callable[..., CompletedProcess[str]]
QUICK = "measure={latency: null, memory: false, energy: false}"
DYING = """
import numpy as np


def dies(split):
    if split == "train":
        raise OSError("the share is gone")
    data = np.load("test.npz")
    return data["images"], data["labels"]
"""


def settings(*values: str) -> list[str]:
    return [part for value in (QUICK, *values) for part in ("--set", value)]


@pytest.mark.slow
def test_a_loss_that_is_not_finite(tmp_path: Path, edgepress: Run) -> None:
    recipe = make_project(tmp_path)
    absurd = "steps=[{train: {lr: 1.0e+30, optimizer: sgd}}]"
    done = edgepress("run", str(recipe), "--out", str(tmp_path / "run"), *settings(absurd))
    assert done.returncode == 2, done.stderr
    assert "the loss became" in done.stderr and "step" in done.stderr and "fix:" in done.stderr
    assert json.loads((tmp_path / "run" / "best.json").read_bytes())["result"].startswith(
        ("steps/00-import", "steps/01-baseline")
    )


@pytest.mark.slow
def test_labels_that_are_none(tmp_path: Path, edgepress: Run) -> None:
    recipe = make_project(tmp_path)
    data = dict(np.load(tmp_path / "train.npz"))
    np.savez(tmp_path / "train.npz", images=data["images"], labels=data["labels"] + 7)
    done = edgepress("run", str(recipe), "--out", str(tmp_path / "run"), *settings("steps=[{train: {}}]"))
    assert done.returncode == 2 and "labels" in done.stderr and "0 to 3" in done.stderr


@pytest.mark.slow
def test_a_loader_that_dies(tmp_path: Path, edgepress: Run) -> None:
    recipe = make_project(tmp_path)
    (tmp_path / "data.py").write_text(DYING)
    source = "data.train={kind: factory, function: 'data.py:dies', kwargs: {split: train}}"
    done = edgepress("run", str(recipe), "--out", str(tmp_path / "run"), *settings(source))
    assert done.returncode == 2, done.stderr
    assert "the share is gone" in done.stderr and "data.py" in done.stderr


@pytest.mark.slow
def test_killed_in_the_middle_of_training_it_goes_on(tmp_path: Path, edgepress: Run) -> None:
    recipe = make_project(tmp_path)
    steps = "steps=[{train: {epochs: 400, validation: 0.0, batch_size: 16}}]"
    command = [sys.executable, "-m", "edgepress_cli", "run", str(recipe), "--out", str(tmp_path / "run"),
               *settings(steps)]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.perf_counter() + 120
    while not list((tmp_path / "run" / "scratch").glob("*/last.safetensors")) and time.perf_counter() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    assert process.returncode == -signal.SIGKILL
    done = edgepress("run", str(recipe), "--out", str(tmp_path / "run"), *settings(steps))
    assert done.returncode == 0, done.stderr
    whole = edgepress("run", str(recipe), "--out", str(tmp_path / "other"), *settings(steps))
    assert whole.returncode == 0
    models = [next((tmp_path / name / "steps").glob("*-export-*/model.onnx")) for name in ("run", "other")]
    assert models[0].read_bytes() == models[1].read_bytes()
