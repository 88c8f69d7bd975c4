"""An `edgepress` whose verbs end in every way that real ones should not: `python odd_verbs.py VERB`."""

from __future__ import annotations

import errno
import time
from pathlib import Path
from typing import Annotated

import typer

from edgepress.errors import Inconclusive, MissingTool
from edgepress_cli import main
from edgepress_cli.endings import traceback_kept_in


def crash(out: Annotated[Path | None, typer.Option()] = None) -> None:
    """Divide by zero, in a run directory if one is named."""
    if out is None:
        raise ZeroDivisionError("nothing to divide by")
    with traceback_kept_in(out):
        raise ZeroDivisionError("nothing to divide by")


def missing() -> None:
    """Miss a tool."""
    raise MissingTool("openvino", needed_for="the target", install="pip install openvino")


def doubt() -> None:
    """Not know."""
    raise Inconclusive("too noisy")


def wait() -> None:
    """Wait to be interrupted."""
    print("waiting", flush=True)
    time.sleep(60)


def talk() -> None:
    """Print more than any pipe holds."""
    for _ in range(100_000):
        print("a line of some length, again and again")


def fill() -> None:
    """Meet a full disk where nobody expected it."""
    with traceback_kept_in(Path("never-made")):
        raise OSError(errno.ENOSPC, "No space left on device", "/full/file")


def misread(out: Annotated[Path, typer.Option()] = Path("never-made")) -> None:
    """Meet an error of the system that should have been caught."""
    with traceback_kept_in(out):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "/gone")


def fail() -> int:
    """Break a budget."""
    return 1


ODD = (crash, missing, doubt, wait, talk, fill, misread, fail)

if __name__ == "__main__":
    main.VERBS = tuple(main.Verb(f.__name__, f"__main__:{f.__name__}", "") for f in ODD)
    main.entry()
