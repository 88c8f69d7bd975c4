"""A worker that is reached again when the way to it breaks: files already there stay, sessions are opened anew."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from edgepress.errors import ToolError
from edgepress.targets.companions import companions
from edgepress.targets.remote.channel import Channel, ConnectionLost

T = TypeVar("T")

CHUNK = 1 << 20
# Waits between attempts: half a minute in all, enough for a board's network to come back.
WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


class FarSide:
    """A worker, whatever it takes.

    Args:
        connect: starts a worker.
        explain: the error that a lost connection stands for, `None` if it is worth another try.
        directory: where files are kept there; empty if the worker sees this machine's files.
        target: fields of the target for the worker.
        waits_s: pauses before the attempts to reach it again.
    """

    def __init__(
        self,
        connect: Callable[[], Channel],
        explain: Callable[[ConnectionLost], ToolError | None],
        directory: str,
        target: Mapping[str, Any],
        waits_s: tuple[float, ...] = WAITS_S,
    ) -> None:
        self._connect, self._explain, self._waits_s = connect, explain, waits_s
        self._directory, self._target = directory, dict(target)
        self._channel: Channel | None = None
        self._open: dict[str, Path] = {}
        self._metered = False
        self.reconnections = 0

    # -- what it can do ------------------------------------------------------------------------------------------------

    def hello(self) -> dict[str, Any]:
        """Machine, cores, memory and versions of the far side."""
        return dict(self._persist(lambda channel: channel.ask("hello")))

    def open(self, name: str, artifact: Path) -> dict[str, Any]:
        """Bring the artifact there, unless it is, and load it under `name`."""
        described = self._persist(lambda channel: self._open_there(channel, name, artifact))
        self._open[name] = artifact
        return dict(described)

    def ask(self, op: str, **arguments: Any) -> Any:
        """One request, repeated on a new connection if the old one breaks before the answer."""
        return self._persist(lambda channel: channel.ask(op, **arguments))

    def cold_start(self, artifact: Path, inputs: Mapping[str, Any], runs: int) -> dict[str, Any]:
        """Load and run the artifact in a worker that has done nothing else; the worker ends afterwards."""

        def start(channel: Channel) -> dict[str, Any]:
            path = self._bring(channel, artifact)
            return dict(channel.ask("cold_start", path=path, target=self._target, inputs=inputs, runs=runs))

        try:
            return self._persist(start)
        finally:
            self.close()

    def open_meter(self) -> dict[str, Any]:
        """Open the target's first meter that answers there."""
        described = self.ask("open_meter", target=self._target)
        self._metered = True
        return dict(described)

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    # -- staying connected ---------------------------------------------------------------------------------------------

    def _persist(self, work: Callable[[Channel], T]) -> T:
        """Do `work` on a connection; on a new one if it breaks.

        Raises:
            ToolError: no attempt succeeded.
        """
        for wait_s in (*self._waits_s, None):
            try:
                return work(self._connected())
            except ConnectionLost as lost:
                self._channel = None
                final = self._explain(lost)
                if final is not None:
                    raise final from None
                if wait_s is None:
                    raise
                self.reconnections += 1
                time.sleep(wait_s)
        raise AssertionError("the last wait is None")

    def _connected(self) -> Channel:
        if self._channel is None:
            channel = self._connect()
            for name, artifact in self._open.items():
                self._open_there(channel, name, artifact)
            if self._metered:
                channel.ask("open_meter", target=self._target)
            self._channel = channel
        return self._channel

    # -- files ---------------------------------------------------------------------------------------------------------

    def _open_there(self, channel: Channel, name: str, artifact: Path) -> Any:
        return channel.ask("open", name=name, path=self._bring(channel, artifact), target=self._target)

    def _bring(self, channel: Channel, artifact: Path) -> str:
        """Copy the artifact and its companions there, unless they are; returns its path there."""
        if not self._directory:
            return str(artifact.resolve())
        files = {file.name: file.read_bytes() for file in (artifact, *companions(artifact))}
        folder = f"{self._directory}/{hashlib.sha256(b''.join(files.values())).hexdigest()[:32]}"
        for name, content in files.items():
            _copy(channel, content, f"{folder}/{name}")
        return f"{folder}/{artifact.name}"


def _copy(channel: Channel, content: bytes, path: str) -> None:
    """Bring bytes to a path, going on where an earlier copy stopped."""
    if channel.ask("size", path=path) == len(content):
        return
    part = f"{path}.part"
    sent = channel.ask("size", path=part)
    while sent < len(content):
        piece = base64.b64encode(content[sent : sent + CHUNK]).decode()
        sent = channel.ask("append", path=part, at=sent, data=piece)
    channel.ask("finish", part=part, path=path, sha256=hashlib.sha256(content).hexdigest())
