"""docs/training.md: its example runs, and it names every loss."""

import re
from pathlib import Path

import pytest

from edgepress.distill import FEATURE_LOSSES, OUTPUT_LOSSES


def test_the_example_runs(repository: Path) -> None:
    pytest.importorskip("sklearn")
    text = (repository / "docs/training.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(example, "docs/training.md", "exec"), {})  # noqa: S102


def test_every_loss_is_documented(repository: Path) -> None:
    text = (repository / "docs/training.md").read_text()
    assert {name for name in (*OUTPUT_LOSSES, *FEATURE_LOSSES) if f"| `{name}` |" not in text} == set()
