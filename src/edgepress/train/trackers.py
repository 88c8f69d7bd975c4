"""Where people watch trainings: TensorBoard and MLflow through their own libraries. No other file imports them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from edgepress.errors import MissingTool, ToolError, UserError
from edgepress.train.progress import EpochLog


class Tracker(Protocol):
    """Takes one entry per epoch."""

    def epoch(self, entry: EpochLog) -> None: ...

    def close(self) -> None: ...


def open_tracker(name: str, place: Path, settings: Mapping[str, Any]) -> Tracker:
    """The tracker of that name.

    Args:
        place: its last part is the title of the training; what lies on the disk goes into its folder.
        settings: recorded with the training.

    Raises:
        UserError: an unknown name. MissingTool: its library is not installed.
    """
    if name not in TRACKERS:
        raise UserError("unknown tracker", found=name, expected=", ".join(TRACKERS), fix="correct `track`")
    return TRACKERS[name](place, settings)


class TensorBoard:
    """Event files in `place`: `tensorboard --logdir RUN/logs`."""

    def __init__(self, place: Path, settings: Mapping[str, Any]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise _missing("tensorboard") from error
        self._writer: Any = SummaryWriter(str(place))
        self._writer.add_text("settings", "  \n".join(f"{key}: {value}" for key, value in settings.items()))

    def epoch(self, entry: EpochLog) -> None:
        for name, value in _numbers(entry).items():
            self._writer.add_scalar(name, value, entry.epoch)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class MLflow:
    """A run of the experiment "edgepress", at MLFLOW_TRACKING_URI if that is set, else in a database beside `place`."""

    def __init__(self, place: Path, settings: Mapping[str, Any]) -> None:
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise _missing("mlflow") from error
        uri = os.environ.get("MLFLOW_TRACKING_URI") or _database(place.parent)
        try:
            self._client: Any = MlflowClient(tracking_uri=uri)
            self._run = self._start(place.name, settings)
        except Exception as error:  # whatever stands behind the address has exceptions of its own
            found, expected = str(error).partition("\n")[0], "a tracking server or store"
            raise ToolError(f"mlflow cannot log to {uri}", found=found, expected=expected,
                            fix="correct MLFLOW_TRACKING_URI") from error  # fmt: skip

    def _start(self, title: str, settings: Mapping[str, Any]) -> str:
        """The identity of a new run of the experiment."""
        found = self._client.get_experiment_by_name("edgepress")
        experiment = found.experiment_id if found else self._client.create_experiment("edgepress")
        run = self._client.create_run(experiment, run_name=title).info.run_id
        for key, value in settings.items():
            self._client.log_param(run, key, value)
        return str(run)

    def epoch(self, entry: EpochLog) -> None:
        for name, value in _numbers(entry).items():
            self._client.log_metric(self._run, name, value, step=entry.epoch)

    def close(self) -> None:
        self._client.set_terminated(self._run)


TRACKERS: Mapping[str, Callable[[Path, Mapping[str, Any]], Tracker]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
}


def _database(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder.absolute().as_posix()}/mlflow.db"


def _numbers(entry: EpochLog) -> dict[str, float]:
    facts = dataclasses.asdict(entry)
    return {name: float(value) for name, value in facts.items() if name != "epoch" and value is not None}


def _missing(tool: str) -> MissingTool:
    return MissingTool(tool, needed_for=f"`track: [{tool}]`", install=f"pip install {tool}")
