"""The GitHub Action and the GitLab job: their shell steps are run as they stand."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Completed = subprocess.CompletedProcess[str]


@pytest.fixture
def shell(tmp_path: Path) -> Callable[[str, dict[str, str]], Completed]:
    """Runs a script in a fresh folder with a model, budgets, and `edgepress` on the PATH."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "edgepress").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m edgepress_cli "$@"\n')
    (tools / "edgepress").chmod(0o755)
    work = tmp_path / "a folder"
    work.mkdir()
    (work / "model.engine").write_bytes(b"0" * 1000)
    (work / "fits.yaml").write_text("- {metric: size_bytes, max: 2000}\n")
    (work / "tight.yaml").write_text("- {metric: size_bytes, max: 10}\n")
    (work / "open.yaml").write_text("- {metric: accuracy, min: 0.9}\n")

    def run(script: str, environment: dict[str, str]) -> Completed:
        path = os.pathsep.join((str(tools), os.environ["PATH"]))
        env = {**os.environ, "PATH": path, "RUNNER_TEMP": str(tmp_path), **environment}
        # As both servers do: stop at the first error.
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
        return subprocess.run(command, cwd=work, env=env, capture_output=True, text=True, timeout=120)

    return run


@pytest.fixture(scope="module")
def action(repository: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((repository / "action.yml").read_text()))


def environment_of(step: dict[str, Any], inputs: dict[str, str]) -> dict[str, str]:
    """The step's `env` with its `${{ inputs.x }}` filled in."""
    fill = re.compile(r"\$\{\{ inputs\.([\w-]+) \}\}")
    return {key: fill.sub(lambda match: inputs[match[1]], value) for key, value in step["env"].items()}


CASES = [
    ({"budgets": "fits.yaml"}, 0, "pass"),
    ({"budgets": "tight.yaml"}, 1, "fail"),
    ({"budgets": "open.yaml"}, 3, "inconclusive"),
    ({"budgets": "open.yaml", "fail-on-inconclusive": "false"}, 0, "inconclusive"),
    ({"budgets": "missing.yaml"}, 2, ""),
    ({"arguments": "--max-size=2kB\n--limit=size_bytes>=1"}, 0, "pass"),
    ({"arguments": "--max-size=2kB\n--baseline=$(touch hacked)"}, 2, ""),
]


@pytest.mark.parametrize(("given", "code", "outcome"), CASES, ids=[str(case[0]) for case in CASES])
def test_the_action(
    action: dict[str, Any], shell: Any, tmp_path: Path, given: dict[str, str], code: int, outcome: str
) -> None:
    inputs = {name: field.get("default", "") for name, field in action["inputs"].items()}
    install, gate = action["runs"]["steps"]
    files = {"GITHUB_OUTPUT": str(tmp_path / "output"), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    values = {**inputs, "subject": "model.engine", **given}
    assert shell(install["run"], environment_of(install, values)).returncode == 0
    done = shell(gate["run"], {**environment_of(gate, values), **files, "GITHUB_ACTIONS": "true"})
    assert done.returncode == code, done.stderr
    outputs = dict(line.split("=", 1) for line in (tmp_path / "output").read_text().splitlines())
    assert outputs["outcome"] == outcome
    assert not (tmp_path / "a folder" / "hacked").exists()
    if outcome:
        assert Path(outputs["junit"]).read_text().startswith("<?xml")
        assert "model.engine" in (tmp_path / "summary.md").read_text()
    assert ("::error" in done.stdout) == (outcome in ("fail", "inconclusive"))


def test_the_action_names_every_input_it_uses(action: dict[str, Any]) -> None:
    used = set(re.findall(r"inputs\.([\w-]+)", yaml.safe_dump(action["runs"])))
    assert used == set(action["inputs"])
    scripts = [step["run"] for step in action["runs"]["steps"]]
    assert not any("${{" in script for script in scripts)


@pytest.mark.parametrize(("budgets", "code"), [("fits.yaml", 0), ("tight.yaml", 1), ("open.yaml", 3), ("none.yaml", 2)])
def test_the_gitlab_job(repository: Path, shell: Any, tmp_path: Path, budgets: str, code: int) -> None:
    job = yaml.safe_load((repository / "docs" / "gitlab-ci.yml").read_text())["edgepress-gate"]
    variables = {**job["variables"], "EDGEPRESS_SUBJECT": "model.engine", "EDGEPRESS_BUDGETS": budgets}
    done = shell("\n".join([*job["before_script"], *job["script"]]), variables)
    assert done.returncode == code, done.stderr
    assert (tmp_path / "a folder" / job["artifacts"]["reports"]["junit"]).exists() == (code != 2)
    assert job["allow_failure"]["exit_codes"] == [3]
