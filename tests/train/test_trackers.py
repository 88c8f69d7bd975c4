"""Trackers: real files where the libraries are there, and what is said where they are not."""

import sys
from pathlib import Path

import pytest

from edgepress.data import Dataset
from edgepress.errors import MissingTool, ToolError, UserError
from edgepress.ir import Program
from edgepress.train import EpochLog, TrainOptions, fit
from edgepress.train.tasks import get
from edgepress.train.trackers import open_tracker

ENTRY = EpochLog(epoch=1, step=4, loss=0.5, lr=0.1, metric=None, seconds=1.0, samples_per_second=64.0)
LIBRARIES = {"tensorboard": "torch.utils.tensorboard", "mlflow": "mlflow"}


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_library_that_is_not_there_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, LIBRARIES[name], None)
    with pytest.raises(MissingTool, match=name) as caught:
        open_tracker(name, tmp_path / "train", {})
    assert caught.value.fix == f"pip install {name}" and caught.value.exit_code == 4


def test_unknown_trackers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown tracker"):
        open_tracker("wandb", tmp_path / "train", {})


def test_tensorboard_gets_event_files(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker = open_tracker("tensorboard", tmp_path / "train", {"lr": 0.1})
    tracker.epoch(ENTRY)
    tracker.close()
    found = EventAccumulator(str(tmp_path / "train")).Reload()
    assert sorted(found.Tags()["scalars"]) == ["loss", "lr", "samples_per_second", "seconds", "step"]
    assert found.Scalars("loss")[0].value == pytest.approx(0.5)


def test_mlflow_gets_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tmp_path.absolute().as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    tracker = open_tracker("mlflow", tmp_path / "train", {"lr": 0.1})
    tracker.epoch(ENTRY)
    tracker.close()
    client = mlflow.MlflowClient(tracking_uri=tmp_path.absolute().as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("edgepress").experiment_id])
    assert run.info.run_name == "train" and run.info.status == "FINISHED"
    assert run.data.metrics["loss"] == 0.5 and run.data.params == {"lr": "0.1"}


def test_a_store_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://at/all")
    with pytest.raises(ToolError, match="cannot log to nowhere://at/all"):
        open_tracker("mlflow", tmp_path / "train", {})


def test_each_epoch_is_told_once(small: Program, train_data: Dataset, tmp_path: Path) -> None:
    told: list[EpochLog] = []
    task = get("classification")

    def train() -> None:
        options = TrainOptions(epochs=3, batch_size=32)
        fit(small, train_data, objective=task.objective(), options=options, task=task, checkpoints=tmp_path,
            on_epoch=told.append)  # fmt: skip

    train()
    assert [entry.epoch for entry in told] == [1, 2, 3]
    train()  # finished already
    assert len(told) == 3
