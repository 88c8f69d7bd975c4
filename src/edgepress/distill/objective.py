"""What a student is trained on: a weighted sum of the task's loss and distillation losses."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgepress.distill.taps import Tap, feature_shape
from edgepress.distill.term import FEATURE_LOSSES, OUTPUT_LOSSES, TASK, USES_TARGETS, Term, settings_of
from edgepress.errors import UserError
from edgepress.ir.program import Program

__all__ = ["FEATURE_LOSSES", "OUTPUT_LOSSES", "TASK", "Objective", "Term", "soft_targets"]

TaskLoss = Callable[[Any, Tensor], Tensor]


class Objective(nn.Module):
    """sum of weight x loss over the terms: what `train.fit` takes.

    Projections from the student's channels to the teacher's, where a term needs them, are parameters of the objective
    and are trained with the student; they are not part of the program.

    Args:
        terms: at least one. task_loss: (outputs, goal) -> scalar, for the term "task".
        student, teacher: the networks, needed where terms have taps.
        seed: of the projections' first weights.

    Raises:
        UserError: no terms, a task term without `task_loss`, taps that do not exist or do not fit each other.
    """

    def __init__(
        self,
        terms: Sequence[Term],
        task_loss: TaskLoss | None = None,
        *,
        student: Program | None = None,
        teacher: Program | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not terms:
            raise UserError("an objective without losses", found="none", expected="at least one loss")
        if task_loss is None and any(t.loss == TASK for t in terms):
            raise UserError("the task's loss is unknown", found="no task", expected="a task", fix="set `task`")
        self.terms = tuple(terms)
        self._task_loss = task_loss
        self._progress = 0.0
        self.projections = nn.ParameterDict(_projections(self.terms, student, teacher, seed))

    @property
    def student_taps(self) -> tuple[str, ...]:
        """Nodes of the student that the terms look at, each once."""
        return tuple(dict.fromkeys(tap.student for term in self.terms for tap in term.taps))

    @property
    def teacher_taps(self) -> tuple[str, ...]:
        """Nodes of the teacher that the terms look at, each once."""
        return tuple(dict.fromkeys(tap.teacher for term in self.terms for tap in term.taps))

    def at(self, progress: float) -> None:
        """Tell how much of the training is done, 0 to 1: schedules of weights follow it."""
        self._progress = progress

    def extra_repr(self) -> str:
        """The terms: equal objectives print equal text."""
        return ", ".join(map(repr, self.terms))

    def forward(self, outputs: Any, targets: Tensor | None, teacher_outputs: Any) -> Tensor:
        """The loss; with taps, outputs and teacher outputs are pairs (outputs, {node: value})."""
        given, features = outputs if self.student_taps else (outputs, {})
        wanted, teacher_features = teacher_outputs if self.student_taps else (teacher_outputs, {})
        values = [
            self._features(term, features, teacher_features)
            if term.taps
            else self._outputs(term, given, targets, wanted)
            for term in self.terms
        ]
        weights = [term.weight_at(self._progress) for term in self.terms]
        return torch.stack([weight * value for weight, value in zip(weights, values, strict=True)]).sum()

    def _outputs(self, term: Term, given: Any, targets: Tensor | None, wanted: Any) -> Tensor:
        if term.loss == TASK:
            if self._task_loss is None or targets is None:
                raise UserError("the task's loss needs targets", found="unlabelled data", expected="labels",
                                fix="distil without the task's loss, or name the targets under `data`")  # fmt: skip
            return self._task_loss(given, targets)
        more = {USES_TARGETS[term.loss]: targets} if term.loss in USES_TARGETS else {}
        pair = _pick(given, term.output), _pick(wanted, term.output)
        return OUTPUT_LOSSES[term.loss](*pair, **more, **term.settings)

    def _features(self, term: Term, features: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Tensor:
        """Mean of the term's loss over its taps."""
        values = []
        for tap in term.taps:
            pair = _aligned(features[tap.student], wanted[tap.teacher], tap)
            student = self._projected(tap, pair[0]) if term.projects else pair[0]
            values.append(FEATURE_LOSSES[term.loss](student, pair[1], **term.settings))
        return torch.stack(values).mean()

    def _projected(self, tap: Tap, features: Tensor) -> Tensor:
        """A 1x1 convolution to the teacher's channels, where they differ."""
        key = _key(tap)
        return torch.einsum("nc...,dc->nd...", features, self.projections[key]) if key in self.projections else features


def soft_targets(
    task_loss: TaskLoss | None, *, loss: str = "kd", weight: float = 0.9, temperature: float = 4.0
) -> Objective:
    """(1 - weight) x task loss + weight x a loss on outputs; the latter alone without a task loss (unlabelled data)."""
    softened = "temperature" in settings_of(loss)
    teaching = Term(loss, weight if task_loss else 1.0, {"temperature": temperature} if softened else {})
    return Objective([Term(TASK, 1 - weight), teaching] if task_loss else [teaching], task_loss)


def _pick(outputs: Any, index: int) -> Tensor:
    if outputs is None:
        raise UserError("distillation without a teacher", found="no teacher", expected="a teacher program",
                        fix="set `teacher`")  # fmt: skip
    return outputs if isinstance(outputs, Tensor) else outputs[index]


# -- features of different sizes ---------------------------------------------------------------------------------------


def _key(tap: Tap) -> str:
    return f"{tap.student}__{tap.teacher}"


def _channels(shape: tuple[int, ...], tap: Tap) -> int:
    return shape[-1] if tap.tokens else shape[0]


def _projections(
    terms: Sequence[Term], student: Program | None, teacher: Program | None, seed: int
) -> dict[str, nn.Parameter]:
    """(teacher channels, student channels) weights by tap, for terms that project and taps whose channels differ."""
    made: dict[str, nn.Parameter] = {}
    generator = torch.Generator().manual_seed(seed)
    for term in terms:
        for tap in term.taps:
            if student is None or teacher is None:
                raise UserError(f"loss {term.loss} looks inside the networks", found="no programs",
                                expected="student and teacher", fix="give both programs")  # fmt: skip
            shapes = feature_shape(student, tap.student), feature_shape(teacher, tap.teacher)
            _check_alike(term, tap, *shapes)
            ours, theirs = (_channels(shape, tap) for shape in shapes)
            if term.projects and ours != theirs and _key(tap) not in made:
                made[_key(tap)] = nn.Parameter(torch.randn(theirs, ours, generator=generator) * ours**-0.5)
    return made


def _check_alike(term: Term, tap: Tap, ours: tuple[int, ...], theirs: tuple[int, ...]) -> None:
    if len(ours) != len(theirs) or (tap.tokens and ours[0] != theirs[0]):
        raise UserError(
            f"loss {term.loss} cannot compare {tap.student} with {tap.teacher}",
            found=f"shapes {list(ours)} and {list(theirs)}",
            expected="the same number of dimensions, and of tokens",
            fix="tap other nodes",
        )


def _aligned(student: Tensor, teacher: Tensor, tap: Tap) -> tuple[Tensor, Tensor]:
    """Both as (N, C, ...) of one spatial size: the larger is averaged down to the smaller."""
    if tap.tokens:
        return student.movedim(-1, 1), teacher.movedim(-1, 1)
    if student.shape[2:] == teacher.shape[2:]:
        return student, teacher
    size = tuple(min(a, b) for a, b in zip(student.shape[2:], teacher.shape[2:], strict=True))
    return _pooled_to(student, size), _pooled_to(teacher, size)


def _pooled_to(features: Tensor, size: tuple[int, ...]) -> Tensor:
    if len(size) == 1:
        return F.adaptive_avg_pool1d(features, size[0])
    return F.adaptive_avg_pool2d(features, (size[0], size[1]))
