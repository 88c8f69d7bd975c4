"""Whole recipes on a tiny network: results, reuse, the same bytes twice, and kills at every point."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from edgepress.errors import UserError
from edgepress.measure.record import Evidence
from edgepress.pipeline.run import RunOutcome, execute
from edgepress.recipe import load

TIMED = ("measure",)  # holds measured times: the one step whose bytes may differ


class Silent:
    """A reporter that only remembers."""

    def __init__(self) -> None:
        self.results: list[tuple[str, bool]] = []

    def step(self, number: int, total: int, name: str) -> None:
        self.name = name

    def result(self, summary: str, *, reused: bool, seconds: float | None) -> None:
        self.results.append((self.name, reused))

    def tell(self, text: str) -> None: ...

    def progress(self, text: str) -> None: ...


def run(recipe: Path, out: Path, *overrides: str, dry: bool = False) -> tuple[RunOutcome, Silent]:
    reporter = Silent()
    return execute(load(recipe, overrides), out, dry_run=dry, device="cpu", reporter=reporter), reporter


def artifacts(out: Path) -> dict[str, bytes]:
    """Every stored file whose bytes must repeat, by name."""
    files = (path for path in (out / "steps").rglob("*") if path.is_file())
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in files
        if not any(f"-{kind}-" in path.as_posix() for kind in TIMED)
    }


def test_a_recipe_from_end_to_end(project: Path, tmp_path: Path) -> None:
    outcome, reporter = run(project, tmp_path / "run")
    evidence = outcome.evidence
    assert evidence is not None
    assert [kind for kind, _ in reporter.results] == [
        "import", "baseline", "prune", "train", "quantize", "export", "measure",
    ]  # fmt: skip
    small, large = (subject.measurement("size_bytes") for subject in (evidence.compressed, evidence.baseline))
    assert small is not None and large is not None and small.value < large.value  # type: ignore[operator]
    session = onnxruntime.InferenceSession(outcome.root / evidence.compressed.artifact)
    scores = session.run(None, {"image": np.zeros((3, 1, 6, 6), np.float32)})[0]
    assert scores.shape == (3, 4)
    assert evidence.paired is not None and evidence.paired.n == 64
    assert {p.first for p in evidence.parity} == {"baseline program", "compressed program"}
    assert all(step.changed for step in evidence.steps)
    stored = Evidence.model_validate_json((outcome.root / "evidence.json").read_bytes())
    assert stored == evidence


def test_a_second_run_reuses_everything(project: Path, tmp_path: Path) -> None:
    run(project, tmp_path / "run")
    _, again = run(project, tmp_path / "run")
    assert [reused for _, reused in again.results] == [True] * 7


def test_a_changed_step_keeps_what_came_before_it(project: Path, tmp_path: Path) -> None:
    run(project, tmp_path / "run")
    _, again = run(project, tmp_path / "run", "steps.1.train.epochs=1")
    assert [kind for kind, reused in again.results if reused] == ["import", "baseline", "prune"]


def test_the_same_recipe_and_seed_give_the_same_bytes(project: Path, tmp_path: Path) -> None:
    run(project, tmp_path / "one")
    run(project, tmp_path / "two")
    one, two = artifacts(tmp_path / "one"), artifacts(tmp_path / "two")
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []


def test_dry_run_prints_every_plan_and_writes_nothing(project: Path, tmp_path: Path) -> None:
    outcome, _ = run(project, tmp_path / "run", dry=True)
    assert [plan.split()[1] for plan in outcome.plans] == ["prune", "train", "quantize", "export"]
    assert not (tmp_path / "run").exists()


def test_a_step_that_changes_nothing_fails(project: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="changed nothing"):
        run(project, tmp_path / "run", "steps.2.quantize.keep_float=['a', 'b', 'head']")


def test_a_budget_out_of_reach_is_refused(project: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="out of reach"):
        run(project, tmp_path / "run", "steps.0.prune.ignore=['.*']")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.train.path=absent.npz", "absent.npz"),
        ("data.evaluate.inputs=pixels", "pixels"),
        ("model.inputs.image.shape=[1, 5, 5]", "does not fit"),
        ("model.factory=net.py:absent", "absent"),
        ("targets=['no-such-target']", "no-such-target"),
    ],
)
def test_bad_input_leaves_nothing_behind(project: Path, tmp_path: Path, override: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        run(project, tmp_path / "run", override)
    assert words in str(caught.value)
    assert not (tmp_path / "run" / "evidence.json").exists()


def test_labels_out_of_range_are_refused(project: Path, tmp_path: Path) -> None:
    data = dict(np.load(tmp_path / "test.npz"))
    np.savez(tmp_path / "test.npz", images=data["images"], labels=data["labels"] + 5)
    with pytest.raises(UserError, match="out of range"):
        run(project, tmp_path / "run")


def test_an_empty_data_set_is_refused(project: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", images=np.zeros((0, 1, 6, 6), np.float32), labels=np.zeros(0, np.int64))
    with pytest.raises(UserError, match="no samples"):
        run(project, tmp_path / "run")


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_run import Silent
from edgepress.pipeline.run import execute
from edgepress.recipe import load
execute(load(Path(sys.argv[1])), Path(sys.argv[2]), dry_run=False, device="cpu", reporter=Silent())
"""


def start(recipe: Path, out: Path) -> subprocess.Popen[bytes]:
    driver = DRIVER.format(tests=str(Path(__file__).parent))
    return subprocess.Popen([sys.executable, "-c", driver, str(recipe), str(out)], stderr=subprocess.DEVNULL)


def kill_when(process: subprocess.Popen[bytes], condition: object, timeout: float = 120) -> None:
    """SIGKILL as soon as `condition()` holds; fails if the process ends first."""
    end = time.monotonic() + timeout
    while not condition():  # type: ignore[operator]
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait(30)


@pytest.mark.slow
def test_killed_in_every_step_and_resumed_gives_the_same_bytes(project: Path, tmp_path: Path) -> None:
    """kill -9 soon after each step began, one after another in the same directory; then run to the end."""
    run(project, tmp_path / "whole")
    out, delay = tmp_path / "killed", random.Random(0)
    whole = artifacts(tmp_path / "whole")
    for step in ("prune", "train", "quantize", "export"):
        process = start(project, out)
        kill_when(process, lambda step=step: list(out.glob(f"steps/.*{step}*")) or list(out.glob(f"steps/*-{step}-*")))
        time.sleep(delay.random() * 0.01)
    assert start(project, out).wait(300) == 0
    resumed = artifacts(out)
    assert whole.keys() == resumed.keys()
    assert [name for name in whole if whole[name] != resumed[name]] == []
    assert not (out / "scratch").exists() or not list((out / "scratch").iterdir())


@pytest.mark.slow
def test_with_everything_baked_the_artifact_takes_the_data_as_it_is_stored(project: Path, tmp_path: Path) -> None:
    for name in ("train", "test"):
        stored = dict(np.load(project.parent / f"{name}.npz"))
        np.savez(project.parent / f"{name}.npz", images=stored["images"].transpose(0, 2, 3, 1), labels=stored["labels"])
    settings = ["data.preprocess={layout: nhwc, scale: 0.5, mean: [0.1], std: [0.7]}", "model.bake_preprocess=true"]
    outcome, _ = run(project, tmp_path / "run", *settings)
    assert outcome.evidence is not None
    assert [note for note in outcome.evidence.notes if "layout is baked" in note]
    session = onnxruntime.InferenceSession(str(next((tmp_path / "run").rglob("model.onnx"))))
    assert session.get_inputs()[0].shape[1:] == [6, 6, 1]


@pytest.mark.slow
def test_a_file_that_is_quantized_already_is_pressed_as_the_float_network_behind_it(
    project: Path, tmp_path: Path
) -> None:
    run(project, tmp_path / "first")
    files = sorted((tmp_path / "first").rglob("model.onnx"), key=lambda path: path.stat().st_size)
    kinds = {node.op_type for node in onnx.load(files[0]).graph.node}
    assert "QuantizeLinear" in kinds
    (project.parent / "shipped.onnx").write_bytes(files[0].read_bytes())
    text = project.read_text().replace(
        "factory: net.py:tiny\n  inputs: {image: {shape: [1, 6, 6]}}", "onnx: shipped.onnx"
    )
    (project.parent / "again.yaml").write_text(text)
    outcome, _ = run(project.parent / "again.yaml", tmp_path / "second")
    assert outcome.evidence is not None
    macs = [{m.name: m.value for m in side.measurements}["macs"]
            for side in (outcome.evidence.baseline, outcome.evidence.compressed)]  # fmt: skip
    assert macs[1] <= 0.7 * macs[0]
