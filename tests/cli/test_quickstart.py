"""The README's main command on the shipped network and real digits, through a real process."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import onnxruntime
import pytest

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
Run = Callable[..., CompletedProcess[str]]


@pytest.mark.slow
def test_quickstart(tmp_path: Path, edgepress: Run) -> None:
    done = edgepress("run", RECIPES / "quickstart.yaml", "--out", tmp_path / "run", timeout=600)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    outcomes = {v["label"]: v["outcome"] for v in report["judgement"]["verdicts"]}
    # Latency depends on the machine and may be doubtful on a busy one; the rest may not.
    assert {name: o for name, o in outcomes.items() if name != "not slower"} == {
        "four times smaller": "pass",
        "half the work": "pass",
        "as good as the original": "pass",
    }
    assert done.returncode == report["exit_code"]
    evidence = report["evidence"]
    onnxruntime.InferenceSession(tmp_path / "run" / evidence["compressed"]["artifact"])
    names = {m["name"] for m in evidence["compressed"]["measurements"]}
    assert {"accuracy", "latency_ms", "size_bytes", "peak_memory_bytes"} <= names
    for name in ("report.html", "report.md", "evidence.json", "recipe.resolved.yaml"):
        assert (tmp_path / "run" / name).stat().st_size > 0


@pytest.mark.slow
@pytest.mark.emulator
def test_embedded(tmp_path: Path, edgepress: Run) -> None:
    """Flash, arena and instructions of generated C on an emulated Cortex-M4, bit for bit what the reference says."""
    from edgepress.targets.emulate import why_not

    if reason := why_not("cortex-m4"):
        pytest.skip(reason)
    done = edgepress("run", RECIPES / "embedded.yaml", "--out", tmp_path / "run", timeout=900)
    assert done.returncode in (0, 3), done.stderr + done.stdout
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    outcomes = {v["label"]: v["outcome"] for v in report["judgement"]["verdicts"]}
    exact = ("fits the flash", "fits the RAM", "less RAM than before", "half the instructions",
             "the core computes what was promised")  # fmt: skip
    assert [outcomes[name] for name in exact] == ["pass"] * 5
    assert (tmp_path / "run" / report["evidence"]["compressed"]["artifact"]).with_name("c").is_dir()
