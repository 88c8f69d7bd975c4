"""A worker process and the two pipes to it: one JSON line there, one JSON line back."""

from __future__ import annotations

import json
import subprocess
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from edgepress.errors import EdgepressError, MissingTool, ToolError, UserError
from edgepress.targets.meters.meter import NoMeter

GRACE_S = 5
KEPT_STDERR_LINES = 40


class ConnectionLost(ToolError):
    """The worker, or the way to it, ended without an answer.

    Attributes:
        exit_code_of_process: how it ended. last_words: its last lines on stderr.
    """

    def __init__(self, what: str, returncode: int | None, last_words: Sequence[str]) -> None:
        super().__init__(what, found=last_words[-1] if last_words else f"exit status {returncode}")
        self.returncode, self.last_words = returncode, tuple(last_words)


class Channel:
    """Starts `command`, sends `first` raw, and then exchanges JSON lines."""

    def __init__(self, command: Sequence[str], first: bytes = b"", env: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
        )
        self._stderr: deque[str] = deque(maxlen=KEPT_STDERR_LINES)
        self._reader = threading.Thread(target=self._collect_stderr, daemon=True)
        self._reader.start()
        self._send(first)

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, op: str, **arguments: Any) -> Any:
        """The worker's answer.

        Raises:
            ConnectionLost: no answer came. UserError, MissingTool, ToolError: as the worker raised them.
        """
        self._send(json.dumps({"op": op, **arguments}).encode() + b"\n")
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._lost()
        answer = json.loads(line)
        if "error" in answer:
            raise raised_there(answer["error"])
        return answer["ok"]

    def close(self) -> None:
        """End the worker by ending its input; by force if that does not help."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                _close_quietly(stream)
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(GRACE_S)

    def _send(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except OSError:
            raise self._lost() from None

    def _lost(self) -> ConnectionLost:
        self.close()
        return ConnectionLost("the connection to the worker ended", self._process.returncode, list(self._stderr))

    def _collect_stderr(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            for line in stream:
                text = line.decode(errors="replace").strip()
                if text:
                    self._stderr.append(text)


def raised_there(error: Mapping[str, str]) -> EdgepressError:
    """The error that the worker raised, as one of this process."""
    facts = {key: error[key] for key in ("found", "expected", "fix")}
    if error["kind"] == "missing":
        missing = MissingTool(error["expected"], needed_for="", install=error["fix"])
        missing.what, missing.found = error["what"], error["found"]
        return missing
    kinds: dict[str, type[EdgepressError]] = {"user": UserError, "no meter": NoMeter}
    return kinds.get(error["kind"], ToolError)(error["what"], **facts)


def _close_quietly(stream: Any) -> None:
    try:
        stream.close()
    except OSError:  # unsent bytes for a process that is gone
        return
