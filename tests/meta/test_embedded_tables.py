"""The tables of docs/embedded.md are those that the benchmark's JSON gives."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_says_what_was_measured() -> None:
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / "embedded" / "tables.py", "--check"], check=False)
    assert done.returncode == 0, "run benchmarks/embedded/tables.py"
