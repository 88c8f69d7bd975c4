"""What is to be trained, as one value."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from edgepress.ir.program import Program
from edgepress.train.options import TrainOptions
from edgepress.train.samples import Samples
from edgepress.train.tasks import Task

Objective = Callable[[Any, Tensor | None, Any], Tensor]
"""(outputs, targets, teacher outputs) -> scalar loss. Outputs are a tensor, or a tuple of tensors; with taps they are
pairs (outputs, {node name: value}). An objective that is a `torch.nn.Module` has its parameters trained along."""


@runtime_checkable
class Scheduled(Protocol):
    """An objective that wants to know how much of the training is done, 0 to 1, before each step."""

    def at(self, progress: float) -> None: ...


@runtime_checkable
class LooksInside(Protocol):
    """An objective that names the nodes it wants to see."""

    @property
    def student_taps(self) -> tuple[str, ...]: ...

    @property
    def teacher_taps(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Taps:
    """Nodes whose values the objective wants to see, by name."""

    student: tuple[str, ...] = ()
    teacher: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.student or self.teacher)

    @classmethod
    def of(cls, objective: Objective) -> "Taps":
        """Those that the objective names itself."""
        return cls(objective.student_taps, objective.teacher_taps) if isinstance(objective, LooksInside) else cls()


@dataclass(frozen=True)
class Job:
    """What is to be trained, and how: everything that decides the result.

    Attributes:
        program: the network to start from. train: its data; targets may be missing where the objective needs none.
        objective: see `Objective`. options: see `TrainOptions`. task: what the metric and label checks follow.
        validation: data to choose the best weights by; never the test set.
        teachers: networks that see the same inputs; the outputs of several are averaged. taps: see `Taps`.
        penalty: trainable parameters by name -> a term added to the loss (sparsity learning).
        constraint: called with the parameters by name after each step, to be changed in place (masks).
        paces: factors on the learning rate of single parameters, by name (learned scales of quantization).
    """

    program: Program
    train: Samples
    objective: Objective
    options: TrainOptions
    task: Task | None = None
    validation: Samples | None = None
    teachers: tuple[Program, ...] = ()
    taps: Taps = field(default_factory=Taps)
    penalty: Callable[[Mapping[str, Tensor]], Tensor] | None = None
    constraint: Callable[[Mapping[str, Tensor]], None] | None = None
    paces: Mapping[str, float] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """sha256 of what can be hashed of it: a checkpoint of another job must not be resumed."""
        facts = {
            "program": self.program.digest(),
            "teachers": [teacher.digest() for teacher in self.teachers],
            "train": self.train.digest,
            "validation": None if self.validation is None else self.validation.digest,
            "options": self.options.to_json(),
            "task": None if self.task is None else self.task.name,
            "taps": [self.taps.student, self.taps.teacher],
            "paces": dict(self.paces),
            # A plain function has no text of its own that tells it from another.
            "objective": repr(self.objective) if isinstance(self.objective, nn.Module) else "",
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
