"""What a step is given and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edgepress.ir import Program, Refusal
from edgepress.pipeline.bench import Bench


@dataclass(frozen=True)
class Workplace:
    """Where a step may write.

    Attributes:
        folder: becomes the step's result; `None` in a dry run, which writes nothing and trains nothing.
        scratch: survives a kill and is given to the next attempt at the same step (checkpoints).
        logs: a name of the step's own in the folder for what trackers write, outside of all results.
    """

    folder: Path | None
    scratch: Path | None
    logs: Path | None = None

    @property
    def dry(self) -> bool:
        return self.folder is None


@dataclass(frozen=True)
class StepResult:
    """What a step did.

    Attributes:
        program: the program after it. changed: whether anything is different now.
        summary: one line. facts: small numbers worth showing. refusals: what was not done, and why.
        plan: the decision in words, as `--dry-run` prints it.
        artifact: name of the file inside the step's folder that ships, "" if there is none.
        declined: the step measured that nothing is gained and left the program alone, as the recipe asked.
    """

    program: Program
    changed: bool
    summary: str
    facts: Mapping[str, float | int | str] = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()
    plan: str = ""
    artifact: str = ""
    declined: bool = False


class Runner(Protocol):
    """Carry out one step: settings, program before it, bench, and where it may write."""

    def __call__(self, config: Any, program: Program, bench: Bench, place: Workplace) -> StepResult: ...
