"""What a student is trained on: a weighted sum of the task's loss and distillation losses."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from edgepress.distill import losses
from edgepress.errors import UserError

TASK = "task"
OUTPUT_LOSSES: Mapping[str, Callable[..., Tensor]] = {
    "kd": losses.kd,
    "dkd": losses.dkd,
    "sequence": losses.sequence,
    "regression": losses.regression,
    "channel_wise": losses.channel_wise,
}
FEATURE_LOSSES: Mapping[str, Callable[..., Tensor]] = {
    "hint": losses.hint,
    "attention": losses.attention,
    "relational": losses.relational,
    "similarity": losses.similarity,
}
USES_TARGETS = {"dkd": "labels", "sequence": "targets"}


@dataclass(frozen=True)
class Term:
    """One ingredient of the objective.

    Attributes:
        loss: "task", or a key of `OUTPUT_LOSSES` or `FEATURE_LOSSES`. weight: its factor.
        settings: keyword arguments of the loss function (temperature, ...).
        output: which of several outputs an output loss compares. taps: (student node, teacher node) pairs of a feature
            loss; its value is the mean over them.
    """

    loss: str
    weight: float = 1.0
    settings: Mapping[str, float] = field(default_factory=dict)
    output: int = 0
    taps: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        known = {TASK, *OUTPUT_LOSSES, *FEATURE_LOSSES}
        if self.loss not in known:
            raise UserError(f"unknown distillation loss {self.loss!r}", found=self.loss,
                            expected=", ".join(sorted(known)), fix="correct `losses`")  # fmt: skip
        if self.loss in FEATURE_LOSSES and not self.taps:
            raise UserError(f"loss {self.loss} compares features", found="no taps",
                            expected="pairs of student and teacher nodes", fix="give `taps`")  # fmt: skip
        self._check_settings()

    def _check_settings(self) -> None:
        function = OUTPUT_LOSSES.get(self.loss) or FEATURE_LOSSES.get(self.loss)
        parameters = inspect.signature(function).parameters.values() if function else ()
        known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        unknown = sorted(set(self.settings) - set(known))
        if unknown:
            raise UserError(f"loss {self.loss} has no setting {unknown[0]}", found=", ".join(unknown),
                            expected=", ".join(known) or "none", fix="correct the settings of the loss")  # fmt: skip


class Objective(nn.Module):
    """sum of weight x loss over the terms: what `train.fit` takes.

    Args:
        terms: at least one. task_loss: (outputs, targets) -> scalar, for the term "task".
    """

    def __init__(self, terms: Sequence[Term], task_loss: Callable[[Any, Tensor], Tensor] | None = None) -> None:
        super().__init__()
        if not terms:
            raise UserError("an objective without losses", found="none", expected="at least one loss")
        if task_loss is None and any(t.loss == TASK for t in terms):
            raise UserError("the task's loss is unknown", found="no task", expected="a task", fix="set `task`")
        self.terms = tuple(terms)
        self._task_loss = task_loss

    @property
    def student_taps(self) -> tuple[str, ...]:
        """Nodes of the student that the terms look at, each once."""
        return tuple(dict.fromkeys(student for term in self.terms for student, _ in term.taps))

    @property
    def teacher_taps(self) -> tuple[str, ...]:
        """Nodes of the teacher that the terms look at, each once."""
        return tuple(dict.fromkeys(teacher for term in self.terms for _, teacher in term.taps))

    def forward(self, outputs: Any, targets: Tensor | None, teacher_outputs: Any) -> Tensor:
        """The loss; with taps, outputs and teacher outputs are pairs (outputs, {node: value})."""
        given, features = outputs if self.student_taps else (outputs, {})
        wanted, teacher_features = teacher_outputs if self.teacher_taps else (teacher_outputs, {})
        values = [self._value(t, given, targets, wanted, features, teacher_features) * t.weight for t in self.terms]
        return torch.stack(values).sum()

    def _value(
        self,
        term: Term,
        given: Any,
        targets: Tensor | None,
        wanted: Any,
        features: Mapping[str, Tensor],
        teacher_features: Mapping[str, Tensor],
    ) -> Tensor:
        if term.loss == TASK:
            assert self._task_loss is not None and targets is not None, "the task's loss needs targets"
            return self._task_loss(given, targets)
        if term.loss in FEATURE_LOSSES:
            return self._feature_loss(term, features, teacher_features)
        more = {USES_TARGETS[term.loss]: targets} if term.loss in USES_TARGETS else {}
        pair = _pick(given, term.output), _pick(wanted, term.output)
        return OUTPUT_LOSSES[term.loss](*pair, **more, **term.settings)

    def _feature_loss(self, term: Term, features: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Tensor:
        function = FEATURE_LOSSES[term.loss]
        values = [function(features[s], wanted[t], **term.settings) for s, t in term.taps]
        return torch.stack(values).mean()


def soft_targets(
    task_loss: Callable[[Any, Tensor], Tensor] | None, *, weight: float = 0.9, temperature: float = 4.0
) -> Objective:
    """The classic mixture: (1 - weight) task loss + weight KD; KD alone without a task loss (unlabelled data)."""
    kd = Term("kd", weight if task_loss else 1.0, {"temperature": temperature})
    return Objective([Term(TASK, 1 - weight), kd] if task_loss else [kd], task_loss)


def _pick(outputs: Any, index: int) -> Tensor:
    if outputs is None:
        raise UserError("distillation without a teacher", found="no teacher", expected="a teacher program",
                        fix="set `teacher`")  # fmt: skip
    return outputs if isinstance(outputs, Tensor) else outputs[index]
