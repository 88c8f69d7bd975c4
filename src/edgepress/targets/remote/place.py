"""The far side of a target, by its kind."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from edgepress.errors import ToolError, UserError
from edgepress.targets.remote import qemu, ssh
from edgepress.targets.remote.bundle import worker_archive
from edgepress.targets.remote.channel import Channel, ConnectionLost
from edgepress.targets.remote.far_side import FarSide
from edgepress.targets.remote.session import RemoteSession
from edgepress.targets.target import Target

SOURCE = Path(__file__).resolve().parents[3]


# What the worker needs to know of a target.
FIELDS = {"name", "runtime", "device", "threads", "options", "meters", "meter_settings"}


def far_side(target: Target) -> FarSide:
    """A worker on the target; a fresh process here for local ones. Nothing is started before it is asked something.

    Raises:
        UserError: a kind that has no worker, or no host. MissingTool: what reaching it takes is not installed.
    """
    makers = {"local": _local, "ssh": _over_ssh, "qemu-arm64": _emulated}
    if target.kind not in makers:
        raise UserError(f"target {target.name} runs no worker", found=f"kind {target.kind}", expected=", ".join(makers))
    return makers[target.kind](target, target.model_dump(mode="json", include=FIELDS))


def _local(target: Target, fields: dict[str, Any]) -> FarSide:
    return FarSide(_fresh_process, _local_failure, "", fields, waits_s=())


def _over_ssh(target: Target, fields: dict[str, Any]) -> FarSide:
    command = ssh.command(target)
    directory = target.remote.directory if target.remote else ""
    return FarSide(
        lambda: Channel(command, worker_archive()), lambda lost: ssh.explain(target, lost), directory, fields
    )


def _emulated(target: Target, fields: dict[str, Any]) -> FarSide:
    command, environment = qemu.command(target)
    fields = {**fields, "device": "cpu"}  # the core is the emulator's business
    return FarSide(lambda: Channel(command, worker_archive(), environment), qemu.explain, "", fields, waits_s=())


def why_untimed(target: Target) -> str:
    """Why times and memory of processes there say nothing about the device; empty if they do."""
    if target.kind == "qemu-arm64":
        return "emulated: neither time nor memory says anything about the real device"
    return ""


def open_there(artifact: Path, target: Target) -> RemoteSession:
    """The artifact loaded on a target that is not local."""
    place = far_side(target)
    try:
        return RemoteSession(artifact, place, why_untimed(target))
    except BaseException:
        place.close()
        raise


def _fresh_process() -> Channel:
    path = os.pathsep.join(filter(None, (str(SOURCE), os.environ.get("PYTHONPATH", ""))))
    return Channel([sys.executable, "-m", "edgepress.targets.worker"], env={**os.environ, "PYTHONPATH": path})


def _local_failure(lost: ConnectionLost) -> ToolError:
    return ToolError("a fresh process for the artifact ended early", found=f"exit {lost.returncode}: {lost.found}")
