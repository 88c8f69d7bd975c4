"""`edgepress run` through real processes: verdict and exit code, resumption after kill -9, one run per directory."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepress.pipeline.store import RunStore

STEPS = "[{prune: {criterion: l2, reduce: {macs: 0.3}, reconstruct: false}}, {export: {}}]"
QUICK = ["--set", f"steps={STEPS}", "--set", "measure={latency: {runs: 20, warmup: 2}, memory: false}"]
EASY = ["--set", "budgets=[{metric: size_bytes, max_ratio: 0.99}]"]
HARD = ["--set", "budgets=[{metric: size_bytes, max_ratio: 0.01}]"]


@pytest.fixture
def recipe(repository: Path) -> Path:
    return repository / "recipes" / "quickstart.yaml"


def start(recipe: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edgepress_cli", "run", str(recipe), "--out", str(out), *QUICK, *EASY]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, "the run ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.slow
def test_the_verdict_is_the_exit_code(edgepress, recipe: Path, tmp_path: Path) -> None:
    kept = edgepress("run", recipe, "--out", tmp_path / "run", *QUICK, *EASY, "--json")
    assert kept.returncode == 0, kept.stderr
    assert json.loads(kept.stdout)["outcome"] == "pass"
    assert "[5/5] measure" in kept.stderr
    broken = edgepress("run", recipe, "--out", tmp_path / "run", *QUICK, *HARD)
    assert broken.returncode == 1
    assert broken.stderr.count("(reused)") == 5  # budgets decide no step
    assert "FAIL" in broken.stdout
    assert {"report.html", "report.md", "report.json", "evidence.json", "recipe.resolved.yaml"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }


@pytest.mark.slow
def test_an_interrupted_run_is_continued(edgepress, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = start(recipe, out)
    wait_for(lambda: list(out.glob("steps/00-import-*")), first)
    first.send_signal(signal.SIGINT)
    _, errors = first.communicate(timeout=120)
    assert first.returncode == 130, errors
    assert errors.endswith("interrupted; what is finished is kept\n")
    again = edgepress("run", recipe, "--out", out, *QUICK, *EASY)
    assert again.returncode == 0, again.stderr
    assert "[1/5] import" in again.stderr
    assert "(reused)" in again.stderr


@pytest.mark.slow
def test_a_directory_in_use_is_not_touched(edgepress, recipe: Path, tmp_path: Path) -> None:
    with RunStore(tmp_path / "run"):
        done = edgepress("run", recipe, "--out", tmp_path / "run", *QUICK)
    assert done.returncode == 2
    assert f"process {os.getpid()}" in done.stderr
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"run.lock", "steps"}


@pytest.mark.slow
def test_a_dry_run_prints_plans_and_writes_nothing(edgepress, recipe: Path, tmp_path: Path) -> None:
    done = edgepress("run", recipe, "--out", tmp_path / "run", "--dry-run", "--json", *QUICK)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["plans"]) >= 2
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_place_that_cannot_be_written_is_wrong_use(edgepress, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = edgepress("run", recipe, "--out", tmp_path / "file", *QUICK)
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
