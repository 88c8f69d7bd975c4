"""`edgepress targets` prints what there is and what is missing."""

import json

import pytest
import typer
from typer.testing import CliRunner

from edgepress import targets as library
from edgepress.errors import UserError
from edgepress_cli.targets import targets

app = typer.Typer()
app.command()(targets)


def run(*args: str) -> str:
    result = CliRunner().invoke(app, args, catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_all_targets_are_listed():
    output = run()
    assert all(name in output for name in library.ready_made())


def test_install_commands_survive_printing(monkeypatch):
    """Square brackets are markup to the table printer: an extra must not vanish."""
    monkeypatch.setattr("edgepress.targets.readiness.find_spec", lambda module: None)
    assert "edgepress[openvino]" in "".join(run().split())


def test_one_target_in_full():
    output = run("raspberry-pi-5")
    assert "Cortex-A76" in output and "pi5-pmic" in output


def test_json():
    rows = json.loads(run("--json"))
    assert [row["name"] for row in rows] == list(library.ready_made())
    assert all(set(lack) == {"what", "fix"} for row in rows for lack in row["lacks"])


def test_an_unknown_target():
    with pytest.raises(UserError, match="no target 'nowhere'"):
        run("nowhere")
