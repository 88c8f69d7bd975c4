"""The command line as a contract: exit codes, three-line errors, quick help; all through real processes."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgepress import __version__
from edgepress_cli.main import VERBS

ODD = Path(__file__).with_name("odd_verbs.py")


def odd(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ODD), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment})


def assert_three_lines(text: str) -> None:
    lines = text.splitlines()
    assert len(lines) == 3, text
    assert not lines[0].startswith(" ")
    assert re.match(r"  found: .+ \| expected: .+", lines[1]), text
    assert lines[2].startswith("  fix: ")


def imported_by(*words: str) -> set[str]:
    """Top-level modules that `edgepress WORDS` imports."""
    command = [sys.executable, "-X", "importtime", "-m", "edgepress_cli", *words]
    log = subprocess.run(command, capture_output=True, text=True, timeout=60).stderr
    return {line.rsplit("|", 1)[1].strip().split(".")[0] for line in log.splitlines() if "|" in line}


HEAVY = {"torch", "numpy", "onnx", "onnxruntime", "scipy", "rich"}


@pytest.mark.parametrize("words", [["--help"], [], ["--version"], ["rum"], ["--frobnicate"]], ids=str)
def test_help_and_unknown_verbs_import_next_to_nothing(words: list[str]) -> None:
    assert not imported_by(*words) & (HEAVY | {"typer", "pydantic", "yaml"})


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
def test_help_of_a_verb_and_its_misuse_import_nothing_heavy(verb: str) -> None:
    assert not imported_by(verb, "--help") & (HEAVY | {"pydantic", "yaml"})
    assert not imported_by(verb, "--no-such-flag") & (HEAVY | {"pydantic", "yaml"})


def test_help_names_every_verb_and_exit_code(edgepress) -> None:
    done = edgepress("--help")
    assert done.returncode == 0
    assert not done.stderr
    for verb in VERBS:
        assert re.search(rf"^  {verb.name} +{re.escape(verb.help)}$", done.stdout, re.MULTILINE)
    assert edgepress().stdout == edgepress("-h").stdout == done.stdout


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
def test_every_verb_explains_itself(edgepress, verb: str) -> None:
    done = edgepress(verb, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: edgepress {verb}")


def test_version(edgepress) -> None:
    assert edgepress("--version").stdout == f"edgepress {__version__}\n"


MISUSE = {
    "unknown verb": (["rum"], "no such verb", "edgepress run"),
    "unknown option at the top": (["--colour"], "no such option", "edgepress --help"),
    "unknown option": (["run", "--otu", "x"], "No such option: --otu", "edgepress run --help"),
    "missing argument": (["run"], "Missing argument", "edgepress run --help"),
    "one argument too many": (["run", "a", "b"], "unexpected extra argument", "edgepress run --help"),
    "not a number": (["run", "a", "--seed", "x"], "--seed", "edgepress run --help"),
    "below the range": (["run", "a", "--seed", "-1"], "--seed", "edgepress run --help"),
    "not a choice": (["schema", "frog"], "'recipe', 'evidence'", "edgepress schema --help"),
    "option without its value": (["run", "a", "--out"], "--out", "edgepress run --help"),
}


@pytest.mark.parametrize(("words", "what", "fix"), MISUSE.values(), ids=MISUSE)
def test_wrong_use_is_told_in_three_lines(edgepress, words: list[str], what: str, fix: str) -> None:
    done = edgepress(*words)
    assert done.returncode == 2
    assert not done.stdout
    assert_three_lines(done.stderr)
    assert what in done.stderr.splitlines()[0]
    assert done.stderr.endswith(f"fix: {fix}\n")


RECIPE = "schema: 1\nname: small\nmodel: {onnx: net.onnx}\nmeasure: {accuracy: false}\n"

BAD_RECIPES = {
    "unknown key": (RECIPE + "budgts: []\n", [], "recipe.yaml:5:1: unknown key 'budgts'"),
    "wrong type": (RECIPE + "seed: soon\n", [], "recipe.yaml:5:7: seed"),
    "duplicate key": (RECIPE + "name: other\n", [], "recipe.yaml:5:1: the key 'name' is given twice"),
    "no YAML": (RECIPE + "steps: [\n", [], "recipe.yaml:6:1: not valid YAML"),
    "empty": ("", [], "recipe.yaml: empty"),
    "bomb": (
        "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)),
        [],
        "aliases expand",
    ),
    "bad override": (RECIPE, ["--set", "steps.0.prune=1"], "--set steps.0.prune=1"),
    "override of an unknown key": (RECIPE, ["--set", "sead=1"], "--set sead=1: unknown key 'sead'"),
}


@pytest.mark.parametrize(("text", "flags", "what"), BAD_RECIPES.values(), ids=BAD_RECIPES)
def test_a_bad_recipe_is_wrong_use_and_leaves_nothing(
    edgepress, tmp_path: Path, text: str, flags: list[str], what: str
) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    done = edgepress("run", "recipe.yaml", *flags, cwd=tmp_path)
    assert done.returncode == 2
    assert what in done.stderr.splitlines()[0]
    assert "  fix: " in done.stderr
    assert len(done.stderr.splitlines()) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_a_missing_recipe_is_wrong_use(edgepress, tmp_path: Path) -> None:
    done = edgepress("run", "recipe.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert_three_lines(done.stderr)
    assert list(tmp_path.iterdir()) == []


def test_a_bad_recipe_is_told_without_torch(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE + "sead: 1\n")
    assert not imported_by("run", str(tmp_path / "recipe.yaml")) & HEAVY


def test_the_traceback_of_an_error_is_shown_on_demand(edgepress) -> None:
    for words in (["--debug", "run", "none.yaml"], ["run", "none.yaml", "--debug"]):
        done = edgepress(*words)
        assert done.returncode == 2
        assert "Traceback" in done.stderr
    assert "Traceback" not in edgepress("run", "none.yaml").stderr


@pytest.mark.parametrize(("verb", "code"), [("missing", 4), ("doubt", 3), ("fail", 1), ("fill", 4)])
def test_each_ending_has_its_exit_code(verb: str, code: int) -> None:
    done = odd(verb)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", ["crash", "misread"])
def test_a_defect_keeps_its_traceback_in_a_file(tmp_path: Path, verb: str) -> None:
    done = odd(verb, TMPDIR=str(tmp_path))
    assert done.returncode == 70
    assert_three_lines(done.stderr)
    (kept,) = tmp_path.iterdir()
    assert str(kept) in done.stderr
    assert "Traceback" in kept.read_text()
    assert verb in kept.read_text().splitlines()[0]  # the command line


def test_a_defect_in_a_run_keeps_its_traceback_in_the_run_directory(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    done = odd("crash", "--out", run)
    assert done.returncode == 70
    assert "ZeroDivisionError: nothing to divide by" in done.stderr.splitlines()[0]
    assert "ZeroDivisionError" in (run / "traceback.txt").read_text()
    assert "Traceback" in odd("crash", "--out", run, "--debug").stderr
    assert odd("misread", "--out", run).returncode == 70
    assert "FileNotFoundError" in (run / "traceback.txt").read_text()


def test_a_defect_with_no_place_for_a_file_is_shown(tmp_path: Path) -> None:
    done = odd("crash", "--out", tmp_path / "never-made", TMPDIR=str(tmp_path / "no-such"))
    assert done.returncode == 70
    assert "ZeroDivisionError" in done.stderr


def test_an_interrupt_is_130_without_a_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, str(ODD), "wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "interrupted; what is finished is kept\n"


def test_a_reader_that_goes_away_is_no_error() -> None:
    process = subprocess.Popen([sys.executable, str(ODD), "talk"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 141
    assert errors == b""


@pytest.mark.parametrize("words", ["--help", "run --help", "schema"])
def test_a_reader_that_never_reads_is_no_error(words: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "edgepress_cli", *words.split()]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=60)
    os.close(writer)
    assert done.returncode == 141
    assert done.stderr == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_behind_stdout_is_the_machines_affair() -> None:
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "edgepress_cli", "schema"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 4
    assert_three_lines(done.stderr)


def test_schemas_are_json_schemas(edgepress) -> None:
    recipe, evidence = (json.loads(edgepress("schema", what).stdout) for what in ("recipe", "evidence"))
    assert recipe["properties"].keys() >= {"model", "steps", "budgets"}
    assert "baseline" in evidence["properties"]
