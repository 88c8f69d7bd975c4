"""Endings that nobody planned: an interrupt, a reader that went away, a full disk behind stdout, a defect of ours."""

from __future__ import annotations

import errno
import os
import platform
import shlex
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgepress import __version__
from edgepress.errors import EdgepressError, ExitCode, ToolError
from edgepress_cli.console import print_error

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
BROKEN_PIPE = 141  # 128 + SIGPIPE

TRACEBACK = "traceback.txt"


class UnexpectedError(Exception):
    """Wraps an error that nobody planned, to say which run directory should keep its traceback."""

    def __init__(self, cause: Exception, folder: Path) -> None:
        super().__init__(f"{cause!r} while working in {folder}")
        self.cause = cause
        self.folder = folder


@contextmanager
def traceback_kept_in(folder: Path) -> Iterator[None]:
    """Let the traceback of an unexpected error in the block be kept in `folder`, if it exists by then."""
    try:
        yield
    except EdgepressError:
        raise
    except Exception as error:
        raise UnexpectedError(error, folder) from error


def end(error: Exception | KeyboardInterrupt, *, debug: bool) -> int:
    """Tell on stderr how the work ended, and return the exit code."""
    folder: Path | None = None
    if isinstance(error, UnexpectedError):
        folder = error.folder
        error = error.cause
    if isinstance(error, EdgepressError):
        return print_error(error, debug=debug)
    if isinstance(error, KeyboardInterrupt):
        print("interrupted; what is finished is kept", file=sys.stderr)
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        _silence_stdout()
        return BROKEN_PIPE
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        _silence_stdout()
        return print_error(_no_space(error), debug=debug)
    return _defect(error, folder, debug=debug)


def _silence_stdout() -> None:
    """Give stdout a place to go, so that the interpreter's last flush stays silent."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _no_space(error: OSError) -> ToolError:
    what = f"the output cannot be written{f' to {error.filename}' if error.filename else ''}"
    return ToolError(what, found=error.strerror or "", expected="space on the disk", fix="free some space, run again")


def _defect(error: Exception, folder: Path | None, *, debug: bool) -> int:
    """Keep the traceback in a file and say where."""
    text = "".join(traceback.format_exception(error))
    kept = _keep(text, folder)
    summary = " ".join(traceback.format_exception_only(error)[-1].split())
    print(f"a defect in edgepress: {summary:.300}", file=sys.stderr)
    print(f"  found: traceback in {kept or 'no writable folder'} | expected: no traceback", file=sys.stderr)
    print("  fix: report it with that file and the recipe; --debug shows it here", file=sys.stderr)
    if debug or kept is None:
        print(text, file=sys.stderr)
    return int(ExitCode.DEFECT)


def _keep(text: str, folder: Path | None) -> Path | None:
    versions = f"edgepress {__version__}, Python {platform.python_version()}, {platform.platform()}"
    content = f"{shlex.join(sys.argv)}\n{versions}\n\n{text}"
    try:
        if folder and folder.is_dir():
            (folder / TRACEBACK).write_text(content, encoding="utf-8", errors="backslashreplace")
            return folder / TRACEBACK
        descriptor, name = tempfile.mkstemp(prefix="edgepress-traceback-", suffix=".txt", text=True)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(content)
        return Path(name)
    except OSError:
        return None
