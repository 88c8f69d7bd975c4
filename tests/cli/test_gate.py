"""`edgepress gate`, `baseline`, `compare` and `report` through real processes: every exit code, every bad file."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepress.gate.baseline import baseline_of, write_baseline
from edgepress.measure.record import Environment, Evidence, Measurement, PairedOutcomes, Subject

Run = Callable[..., subprocess.CompletedProcess[str]]

PASS, FAIL, WRONG_USE, INCONCLUSIVE, TOOL_FAILED, DEFECT = 0, 1, 2, 3, 4, 70


def evidence(machine: str = "here", size: float = 1000, **fields: Any) -> Evidence:
    def subject(name: str, bytes_: float) -> Subject:
        step = len(name)  # other samples for each subject, with the same centre
        samples = tuple(1.0 + 0.01 * (i * step % 11 - 5) for i in range(200))
        unknown = Measurement(name="energy_mj", value=None, unit="mJ", reason="no meter on this machine")
        measurements = (
            Measurement(name="size_bytes", value=bytes_, unit="bytes", source="counted"),
            Measurement(
                name="latency_ms", value=1.0, unit="ms", n=200, samples=samples, low=0.99, high=1.01, target="pi"
            ),
            Measurement(name="accuracy", value=0.9, unit="ratio", n=1000, better="higher"),
            unknown,
        )
        return Subject(name=name, measurements=measurements)

    place = Environment(machine_class=machine, os="Linux", cpu="cpu", cores=2, memory_bytes=2**30, python="3.11")
    known: dict[str, Any] = {
        "name": "tiny",
        "created": "2026-01-01T00:00:00Z",
        "edgepress_version": "0.1.0",
        "command": "edgepress run tiny.yaml",
        "seed": 0,
        "recipe": {},
        "environment": place,
        "baseline": subject("baseline", 4000),
        "compressed": subject("compressed", size),
        "paired": PairedOutcomes(both=890, only_first=10, only_second=10, neither=90, flips=30),
    }
    return Evidence(**{**known, **fields})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs, models, budgets and baselines, sound ones and broken ones."""
    folder = tmp_path_factory.mktemp("gate")
    texts = {
        "run/evidence.json": evidence().model_dump_json(),
        "asked/evidence.json": evidence(recipe={"budgets": [{"metric": "size_bytes", "max": 10}]}).model_dump_json(),
        "nan/evidence.json": evidence().model_dump_json().replace("1000.0", "NaN"),
        "cut/evidence.json": evidence().model_dump_json()[:-40],
        "empty/readme.txt": "nothing here",
        "keeps.yaml": "budgets: [{metric: size_bytes, max: 2000, max_ratio: 0.5}, {metric: accuracy, max_drop: 0.02}]",
        "warns.yaml": "- {metric: size_bytes, max: 10, severity: warn}\n",
        "breaks.yaml": "- {metric: latency_ms, max: 0.5}\n",
        "close.yaml": "- {metric: latency_ms, max_ratio: 1.0}\n",
        "energy.yaml": "- {metric: energy_mj, max: 1}\n",
        "typo.yaml": "- {metric: size_byte, max: 1}\n",
        "key.yaml": "- {metric: size_bytes, maximum: 1}\n",
        "nan.yaml": "- {metric: size_bytes, max: .nan}\n",
        "none.yaml": "budgets: []\n",
        "void.yaml": "",
        "contradiction.yaml": "- {metric: size_bytes, max: 10, min: 20}\n",
        "pair.yaml": "- {metric: size_bytes, max: 10}\n- {metric: size_bytes, min: 20}\n",
        "broken.yaml": "- {metric: size_bytes, max: 10\n",
        "relative.yaml": "- {metric: size_bytes, max_ratio: 1.1}\n- {metric: latency_ms, max_ratio: 1.3}\n",
        "corrupt-baseline.yaml": "<<<<<<< HEAD\nedgepress_baseline: 1\n=======\n",
        "wrong-baseline.yaml": "edgepress_baseline: 1\nsubject: x\n",
        "no-onnxruntime/onnxruntime.py": "raise ImportError('no module named onnxruntime')\n",
        "defect/sitecustomize.py": "import edgepress.gate.load as load\nload.load_evidence = lambda *_, **__: 1 / 0\n",
        "text.onnx": "<html>not found</html>",
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    write_baseline(baseline_of(evidence(), reason="first", updated="2026-01-01"), folder / "baseline.yaml")
    write_baseline(baseline_of(evidence("elsewhere"), reason="x", updated="2026-01-01"), folder / "other-machine.yaml")
    write_baseline(baseline_of(evidence(size=800), reason="x", updated="2026-01-01"), folder / "smaller.yaml")
    save_model(folder / "model.onnx", 64)
    save_model(folder / "bigger.onnx", 65)
    return folder


def save_model(path: Path, width: int) -> None:
    weight = numpy_helper.from_array(np.ones((width, width), np.float32), "w")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weight])
    opset = [helper.make_opsetid("", 17)]
    onnx.save_model(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def scenarios() -> list[tuple[str, int, str]]:
    """(what is judged, exit code, words that must appear), as the documentation promises them."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "gate-scenarios.md").read_text()
    found = re.findall(r"^\| `([^`]+)` \| (\d+) \| (.+) \|$", page, re.MULTILINE)
    assert len(found) > 30
    return [(words, int(code), text) for words, code, text in found]


SCENARIOS = scenarios()


@pytest.mark.parametrize(("words", "code", "text"), SCENARIOS, ids=[words for words, _, _ in SCENARIOS])
def test_scenario(edgepress: Run, place: Path, words: str, code: int, text: str) -> None:
    done = edgepress("gate", *words.split(), cwd=place)
    output = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == code, output
    assert text in output
    assert "Traceback" not in output
    if code in (WRONG_USE, TOOL_FAILED):
        assert re.search(r"found: .+", done.stderr)
        assert done.stdout == ""


def with_path(place: Path, shim: str) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join((str(place / shim), os.environ.get("PYTHONPATH", "")))}


def test_a_missing_runtime_is_a_missing_tool(edgepress: Run, place: Path) -> None:
    words = ("gate", "model.onnx", "--limit", "latency_ms<=100")
    done = edgepress(*words, cwd=place, env=with_path(place, "no-onnxruntime"))
    assert done.returncode == TOOL_FAILED, done.stderr
    assert "onnxruntime" in done.stderr and "pip install" in done.stderr


def test_a_defect_of_ours_is_seventy(edgepress: Run, place: Path) -> None:
    done = edgepress("gate", "run", "--budgets", "keeps.yaml", cwd=place, env=with_path(place, "defect"))
    assert done.returncode == DEFECT
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize(("limit", "code"), [("latency_ms<=1000", PASS), ("latency_ms<=0.0000001", FAIL)])
def test_a_bare_model_is_timed_until_it_is_clear(edgepress: Run, place: Path, limit: str, code: int) -> None:
    done = edgepress("gate", "model.onnx", "--limit", limit, "--seconds", "20", cwd=place)
    assert done.returncode == code, done.stderr
    assert "rounds on local-cpu" in done.stdout


def test_two_models_are_timed_in_turns(edgepress: Run, place: Path) -> None:
    words = ("gate", "model.onnx", "--against", "model.onnx", "--limit", "latency_ms<=3x", "--seconds", "20", "--json")
    verdict = json.loads(edgepress(*words, cwd=place).stdout)["judgement"]["verdicts"][0]
    assert verdict["outcome"] == "pass"
    assert "interleaved" in verdict["evidence"]
    assert 0.3 < verdict["value"] < 3


def test_a_terminal_without_unicode(edgepress: Run, place: Path) -> None:
    done = edgepress("gate", "model.onnx", "--max-size", "20kB", cwd=place, env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == PASS, done.stderr
    assert "? pass" in done.stdout


def test_a_run_is_timed_anew(edgepress: Run, place: Path, tmp_path: Path) -> None:
    """The recorded latencies of both models are one millisecond; these two take a few microseconds."""
    paths = {"baseline": "../model.onnx", "compressed": "../bigger.onnx"}
    subjects = {role: getattr(evidence(), role).model_copy(update={"artifact": path}) for role, path in paths.items()}
    run = place / "retimed"
    run.mkdir()
    (run / "evidence.json").write_text(evidence(**subjects).model_dump_json())
    words = ("gate", "retimed", "--limit", "latency_ms@local-cpu<=0.9")
    assert edgepress(*words, cwd=place).returncode == INCONCLUSIVE
    done = edgepress(*words, "--retime", "--seconds", 20, cwd=place)
    assert done.returncode == PASS, done.stdout + done.stderr


def test_outputs_for_machines(edgepress: Run, place: Path, tmp_path: Path) -> None:
    junit, markdown = tmp_path / "j.xml", tmp_path / "m.md"
    words = ("gate", "run", "--budgets", "breaks.yaml", "--json", "--junit", junit, "--markdown", markdown)
    done = edgepress(*words, cwd=place)
    facts = json.loads(done.stdout)
    assert facts["exit_code"] == done.returncode == FAIL
    assert facts["outcome"] == "fail"
    suite = ElementTree.parse(junit).getroot()[0]
    assert suite.attrib["failures"] == "1"
    assert "| ✗ fail |" in markdown.read_text()


def test_github_actions_get_annotations_and_a_summary(edgepress: Run, place: Path, tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    env = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}
    done = edgepress("gate", "run", "--budgets", "breaks.yaml", cwd=place, env=env)
    assert done.returncode == FAIL
    assert re.search(r"^::error title=latency_ms%3A fail::", done.stdout, re.MULTILINE)
    assert "FAIL" in summary.read_text()
    quiet = edgepress("gate", "run", "--budgets", "breaks.yaml", "--no-github", cwd=place, env=env)
    assert "::error" not in quiet.stdout


def test_baseline_update_then_gate(edgepress: Run, place: Path, tmp_path: Path) -> None:
    file = tmp_path / "base.yaml"
    assert edgepress("baseline", "update", "run", "--file", file, cwd=place).returncode == WRONG_USE
    assert not file.exists()
    done = edgepress("baseline", "update", "run", "--file", file, "--reason", "the first", cwd=place)
    assert done.returncode == PASS and "the first" in done.stdout
    assert edgepress("baseline", "show", "--file", file, cwd=place).stdout == done.stdout
    gated = edgepress("gate", "run", "--budgets", "relative.yaml", "--baseline", file, cwd=place)
    assert gated.returncode == PASS, gated.stdout
    better = edgepress("gate", "run", "--budgets", "relative.yaml", "--baseline", "baseline.yaml", cwd=place)
    assert "better than" not in better.stdout


def test_report_writes_three_files_and_judges(edgepress: Run, place: Path, tmp_path: Path) -> None:
    done = edgepress("report", "asked", "--out", tmp_path, cwd=place)
    assert done.returncode == FAIL
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json", "report.md"]
    assert edgepress("report", "nan", "--out", tmp_path, cwd=place).returncode == WRONG_USE


def test_compare(edgepress: Run, place: Path, tmp_path: Path) -> None:
    done = edgepress("compare", "model.onnx", "bigger.onnx", "run", "--out", tmp_path, cwd=place)
    assert done.returncode == PASS, done.stderr
    assert "1.031x" in done.stdout  # 4225 / 4096 parameters
    assert (tmp_path / "compare.html").is_file() and (tmp_path / "compare.md").is_file()
    timed = edgepress("compare", "model.onnx", "bigger.onnx", "--rounds", 40, "--json", cwd=place)
    labels = [row["label"] for row in json.loads(timed.stdout)["metrics"]]
    assert "Latency (local-cpu)" in labels
    assert edgepress("compare", "model.onnx", cwd=place).returncode == WRONG_USE
    assert "0.250x" in edgepress("compare", "run", cwd=place).stdout  # 1,000 bytes of 4,000


def test_a_size_gate_starts_without_heavy_imports(tmp_path: Path) -> None:
    """Ten megabytes of ONNX: no torch, no onnx, no numpy; the time is printed rather than asserted."""
    save_model(tmp_path / "ten.onnx", 1600)
    command = [
        sys.executable,
        "-X",
        "importtime",
        "-m",
        "edgepress_cli",
        "gate",
        str(tmp_path / "ten.onnx"),
        "--max-size",
    ]
    begin = time.perf_counter()
    done = subprocess.run([*command, "20MB"], capture_output=True, text=True, timeout=60)
    print(f"{time.perf_counter() - begin:.2f} s for a gate on 10 MB, import log included")
    assert done.returncode == PASS
    imported = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert not imported & {"torch", "onnx", "numpy", "scipy", "onnxruntime", "jinja2", "matplotlib"}
