"""Requests and answers, one JSON object per line. The process ends when its input does, even in the middle of work:
a connection that breaks leaves nothing behind.

Request: {"op": name, ...}. Answer: {"ok": ...} or {"error": {kind, what, found, expected, fix}}.
"""

from __future__ import annotations

import errno
import json
import os
import queue
import sys
import threading
from collections.abc import Mapping
from typing import IO, Any

from edgepress.errors import EdgepressError, MissingTool, ToolError, UserError
from edgepress.targets.meters.meter import NoMeter
from edgepress.targets.worker.operations import OPERATIONS, Workbench

# A connection that dies without a word is noticed by its silence: then nobody waits for answers any more.
SILENCE_S = 900
CONNECTION_ENDED = 3


def main() -> int:
    """Serve stdin to stdout until stdin ends."""
    answers = _private_stdout()
    requests: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    bench = Workbench()
    while True:
        try:
            line = requests.get(timeout=SILENCE_S)
        except queue.Empty:
            return CONNECTION_ENDED
        answers.write(json.dumps(answer(bench, line)) + "\n")
        answers.flush()


def answer(bench: Workbench, line: str) -> dict[str, Any]:
    """What to say to one request."""
    try:
        request: Mapping[str, Any] = json.loads(line)
        operation = OPERATIONS[request["op"]]
        return {"ok": operation(bench, **{key: value for key, value in request.items() if key != "op"})}
    except EdgepressError as error:
        return {"error": _plain(error)}
    except ImportError as error:
        return {"error": _plain(_not_installed(error))}
    except OSError as error:
        return {"error": _plain(_from_system(error))}
    except Exception as error:
        return {"error": _plain(ToolError("the worker failed", found=f"{type(error).__name__}: {error}"))}


def _plain(error: EdgepressError) -> dict[str, str]:
    kinds = ((MissingTool, "missing"), (NoMeter, "no meter"), (UserError, "user"))
    kind = next((name for cls, name in kinds if isinstance(error, cls)), "tool")
    return {"kind": kind, "what": error.what, "found": error.found, "expected": error.expected, "fix": error.fix}


def _not_installed(error: ImportError) -> MissingTool:
    tool = error.name or str(error)
    return MissingTool(tool, needed_for="running artifacts there", install=f"{sys.executable} -m pip install {tool}")


def _from_system(error: OSError) -> ToolError:
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ToolError(
            f"the disk is full where the artifact should go{where}",
            found=error.strerror or str(error),
            fix="free some space there, or set remote.directory in the target file to another disk",
        )
    return ToolError(f"a file cannot be used{where}", found=error.strerror or str(error))


def _private_stdout() -> IO[str]:
    """The pipe to the caller, for answers only: whatever else prints goes to stderr instead."""
    sys.stdout.flush()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _listen(requests: queue.Queue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    os._exit(CONNECTION_ENDED)  # not sys.exit: the main thread may be deep inside a runtime
