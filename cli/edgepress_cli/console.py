"""What a person reads while edgepress works. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import sys
import time
import traceback
from typing import TYPE_CHECKING, TextIO

from edgepress.errors import EdgepressError

if TYPE_CHECKING:
    from rich.status import Status

SECONDS_BETWEEN_LINES = 10.0


def print_error(error: EdgepressError, *, debug: bool) -> int:
    """What failed, what was found and expected, the fix; returns the exit code."""
    if debug:
        traceback.print_exception(error)
    print(error, file=sys.stderr)
    return int(error.exit_code)


class ConsoleReporter:
    """Tells on stderr how a run goes: with a live line on a terminal, in few plain lines elsewhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._status: Status | None = None
        self._last_line = time.perf_counter()

    def step(self, number: int, total: int, name: str) -> None:
        """A step begins."""
        self._title = f"[{number}/{total}] {name}"
        if self._stream.isatty():
            self._live(self._title)

    def result(self, summary: str, *, reused: bool, seconds: float | None) -> None:
        """The step that began last is done. `seconds` it took, `None` if unknown."""
        took = "reused" if reused else f"{seconds:.1f} s" if seconds is not None else ""
        self.tell(f"{self._title}: {summary}{f' ({took})' if took else ''}")

    def tell(self, text: str) -> None:
        """A line that stays."""
        self.close()
        print(text, file=self._stream, flush=True)
        self._last_line = time.perf_counter()

    def progress(self, text: str) -> None:
        """Where the work is: replaces itself on a terminal, thinned out to one line in ten seconds elsewhere."""
        if self._stream.isatty():
            self._live(text)
        elif time.perf_counter() - self._last_line >= SECONDS_BETWEEN_LINES:
            self.tell(f"  {text}")

    def close(self) -> None:
        """Take the live line away."""
        if self._status:
            self._status.stop()
            self._status = None

    def _live(self, text: str) -> None:
        from rich.console import Console
        from rich.markup import escape

        if self._status is None:
            self._status = Console(file=self._stream).status("")
            self._status.start()
        self._status.update(escape(text))
