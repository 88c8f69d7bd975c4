"""Shared fixtures: where the real data lies, and how the command line is run."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets and trained models; the test is skipped where there is none."""
    folder = os.environ.get("EDGEPRESS_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("EDGEPRESS_DATA is not set: no real data here")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def repository() -> Path:
    return ROOT


@pytest.fixture
def edgepress() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `edgepress ARGS...` as a real subprocess."""

    def run(*args: object, cwd: Path | None = None, env: dict[str, str] | None = None, timeout: float = 300):
        command = [sys.executable, "-m", "edgepress_cli", *map(str, args)]
        return subprocess.run(
            command,
            cwd=cwd or ROOT,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run
