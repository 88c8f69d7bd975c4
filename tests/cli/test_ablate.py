"""`edgepress run --ablate` and the networks of `edgepress distill`, through real processes."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from tests.pipeline.conftest import make_project

Run = Callable[..., CompletedProcess[str]]
QUICK = ("--set", "measure={latency: null, memory: false, energy: false}", "--set", "steps.1.train.epochs=1")


@pytest.mark.slow
def test_what_each_step_brought(tmp_path: Path, edgepress: Run) -> None:
    recipe, out = make_project(tmp_path), tmp_path / "run"
    done = edgepress("run", recipe, "--out", out, "--ablate", *QUICK, env={"COLUMNS": "160"})
    assert done.returncode == 0, done.stderr
    assert "what it brought (points)" in done.stdout and "3 quantize" in done.stdout
    assert "cannot be left out" in done.stdout and "report:" in done.stdout
    assert "without 1 prune, seed 3" in done.stderr
    assert "| 2 train.distill |" in (out / "ablation.md").read_text()
    again = edgepress("run", recipe, "--out", out, "--ablate", "--json", *QUICK)
    assert again.returncode == 0 and "reused" in again.stderr
    rows = {row["name"]: row for row in json.loads(again.stdout)["rows"]}
    assert rows["1 prune"]["gain"] is not None and rows["4 export"]["reason"]


def test_a_dry_run_lists_the_variants(tmp_path: Path, edgepress: Run) -> None:
    recipe = make_project(tmp_path)
    done = edgepress("run", recipe, "--ablate", "--dry-run")
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == "without 1 prune"
    assert done.stdout.splitlines()[-1].startswith("without 4 export: no, ")
    assert not (tmp_path / "runs").exists()


def test_seeds_without_ablation_are_wrong_use(tmp_path: Path, edgepress: Run) -> None:
    done = edgepress("run", make_project(tmp_path), "--seeds", "3")
    assert done.returncode == 2 and "--ablate" in done.stderr


@pytest.mark.slow
def test_networks_of_the_command_line(tmp_path: Path, edgepress: Run) -> None:
    recipe = make_project(tmp_path)
    flags = ("--student", "net.py:narrow", "--teacher", "net.py:tiny", *QUICK)
    network = tmp_path / "net.py"
    network.write_text(network.read_text() + "\n\ndef narrow():\n    return tiny(6)\n")
    done = edgepress("distill", "tiny.yaml", "--out", "run", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    evidence = json.loads((tmp_path / "run" / "evidence.json").read_bytes())
    (step,) = [s for s in evidence["steps"] if s["kind"] == "train"]
    assert "net.py:narrow" in step["summary"] and "taught by" in step["summary"]
    assert step["after"]["params"] < step["before"]["params"]
    assert recipe.read_text().count("student") == 0


def test_a_student_needs_a_train_step(tmp_path: Path, edgepress: Run) -> None:
    recipe = make_project(tmp_path)
    done = edgepress("distill", recipe, "--student", "a.onnx", "--set", "steps=[{quantize: {}}]")
    assert done.returncode == 2 and "no train step" in done.stderr
