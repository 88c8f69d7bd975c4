"""`distill:` inside a training step: from whom, by which losses. Needs no torch."""

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator

from edgepress.recipe.model import Network
from edgepress.recipe.section import Section, problem

LossName = Literal[
    "task",
    "kd",
    "dkd",
    "sequence",
    "regression",
    "channel_wise",
    "hint",
    "attention",
    "relational",
    "similarity",
]
SETTINGS: dict[str, tuple[str, ...]] = {
    "task": (),
    "kd": ("temperature",),
    "dkd": ("temperature", "alpha", "beta"),
    "sequence": ("temperature",),
    "regression": (),
    "channel_wise": ("temperature",),
    "hint": ("relative",),
    "attention": (),
    "relational": ("distance", "angle"),
    "similarity": (),
}
"""Loss -> the settings it has; those of `edgepress.distill.losses`."""
FEATURES = frozenset({"hint", "attention", "relational", "similarity"})
"""Losses on what networks compute inside; the others compare outputs."""
LABELS = frozenset({"task", "dkd"})
"""Losses that cannot do without targets."""


FOR_TASK: dict[str, LossName] = {"classification": "kd", "segmentation": "kd", "language": "sequence"}
"""Task -> the loss on outputs that `auto` takes; `regression` for the others."""
OUTPUT_SHARE = 0.9


class TapPatterns(Section):
    """Regular expressions for whole node names; matches are paired in order of execution."""

    student: str
    teacher: str


class Loss(Section):
    """One term of the sum that is minimised.

    Attributes:
        loss: `task` is the task's own, against the targets; the others compare student and teacher.
        weight: its factor. schedule: `constant`, `up` (grows over the first fifth), `down` (falls to 0 at the end).
        taps: where losses on features look: `auto`, patterns, or pairs [student node, teacher node].
        output: which output a loss on outputs compares.
        temperature, alpha, beta, relative, distance, angle: settings of some losses; see docs/training.md.
    """

    loss: LossName
    weight: PositiveFloat = 1.0
    schedule: Literal["constant", "up", "down"] = "constant"
    taps: Literal["auto"] | TapPatterns | tuple[tuple[str, str], ...] | None = None
    output: NonNegativeInt = 0
    temperature: PositiveFloat | None = None
    alpha: PositiveFloat | None = None
    beta: PositiveFloat | None = None
    relative: NonNegativeFloat | None = None
    distance: PositiveFloat | None = None
    angle: PositiveFloat | None = None

    @model_validator(mode="after")
    def _settings_of_this_loss(self) -> "Loss":
        wrong = sorted(self.settings().keys() - set(SETTINGS[self.loss]))
        if wrong:
            known = ", ".join(SETTINGS[self.loss]) or "none"
            raise problem(f"the loss {self.loss} has no setting {wrong[0]}", at=wrong[0], found=wrong[0],
                          expected=known, fix=f"remove {wrong[0]}")  # fmt: skip
        if self.taps is not None and self.loss not in FEATURES:
            raise problem(f"the loss {self.loss} looks at outputs and has no taps", at="taps", found="taps",
                          expected=f"taps with {', '.join(sorted(FEATURES))}", fix="remove taps")  # fmt: skip
        return self

    def settings(self) -> dict[str, float]:
        """The settings that are given."""
        names = {name for names in SETTINGS.values() for name in names}
        return {name: value for name in sorted(names) if (value := getattr(self, name)) is not None}

    def spec(self) -> dict[str, Any]:
        """As `edgepress.distill.read_terms` takes it."""
        given = {"loss": self.loss, "weight": self.weight, "schedule": self.schedule, "output": self.output}
        taps = self.taps.model_dump() if isinstance(self.taps, TapPatterns) else self.taps
        return {**given, **self.settings(), **({} if taps is None else {"taps": taps})}

    def __str__(self) -> str:
        settings = "".join(f", {name} {value:g}" for name, value in self.settings().items())
        return f"{self.weight:g} {self.loss}{settings}{'' if self.schedule == 'constant' else ', ' + self.schedule}"


class Distill(Section):
    """Learn from a teacher.

    In short: `{}` is what brought most in the benchmarks: the task's own loss and hints on features, or, where the
    networks have no features in common, the loss on outputs that suits the task. One loss on outputs:
    `{loss: kd, temperature: 4, weight: 0.7}` is 0.7 kd + 0.3 task. Any sum of losses at length: `losses: [{loss: task,
    weight: 0.3}, {loss: kd, weight: 0.7}, {loss: hint}]`; without `task` no labels are needed.

    Attributes:
        loss: on the outputs: `kd` (softened logits, Hinton et al. 2015), `dkd`, `regression`, `sequence`; or `auto`.
        temperature: how much logits are softened, where the loss has one.
        weight: share of the loss on outputs, 0.9 unless given; 1 - weight is left for the task's own loss. With `auto`
            it asks for both, outputs and features; 1 needs no labels.
        losses: instead of these three.
        teachers: networks to learn from, their outputs averaged; the uncompressed original without any.
        cache: ask the teacher once per sample and keep the answers, where nothing changes the samples.
    """

    loss: Literal["auto", "kd", "dkd", "regression", "sequence", "channel_wise"] = "auto"
    temperature: PositiveFloat = 4.0
    weight: Annotated[float, Field(gt=0, le=1)] | None = None
    losses: tuple[Loss, ...] | None = None
    teachers: tuple[Network, ...] | None = None
    cache: bool = True

    @model_validator(mode="after")
    def _short_or_long(self) -> "Distill":
        # A resolved recipe holds the defaults of the short form beside the losses: they say nothing.
        defaults = {"loss": "auto", "temperature": 4.0, "weight": None}
        short = [name for name, default in defaults.items() if getattr(self, name) != default]
        if self.losses is not None and short:
            raise problem("distill takes one loss in short, or `losses`", at=short[0], found=f"{short[0]} and losses",
                          expected="one of them", fix=f"move {short[0]} into losses")  # fmt: skip
        if self.losses is not None and all(loss.loss == "task" for loss in self.losses):
            found, example = "the task's loss alone", "one more, e.g. {loss: kd}"
            raise problem("distill.losses compares nothing with the teacher", at="losses", found=found,
                          expected=example, fix="add one, or remove distill")  # fmt: skip
        for key in ("losses", "teachers"):
            if getattr(self, key) == ():
                raise problem(f"distill.{key} is empty", at=key, found="nothing", expected="at least one",
                              fix=f"remove {key}")  # fmt: skip
        return self

    @property
    def chooses(self) -> bool:
        """Whether the losses are left to edgepress."""
        return self.losses is None and self.loss == "auto"

    def terms(self, task: str, *, features: bool = True) -> tuple[Loss, ...]:
        """What is summed up, whichever way it was written.

        Args:
            task: the recipe's; `auto` depends on it. features: whether student and teacher have some in common.
        """
        if self.losses is not None:
            return self.losses
        if self.chooses and features and self.weight is None:
            return (Loss(loss="task"), Loss(loss="hint", relative=0.0))
        loss = FOR_TASK.get(task, "regression") if self.loss == "auto" else self.loss
        softened = self.temperature if "temperature" in SETTINGS[loss] else None
        share = OUTPUT_SHARE if self.weight is None else self.weight
        own = (Loss(loss="task", weight=round(1 - share, 12)),) if share < 1 else ()
        hints = (Loss(loss="hint"),) if self.chooses and features else ()
        return (*own, Loss(loss=loss, weight=share, temperature=softened), *hints)

    def without(self, position: int, task: str) -> "Distill":
        """The same, with one of the `losses` left out."""
        kept = tuple(loss for i, loss in enumerate(self.terms(task)) if i != position)
        return Distill(losses=kept, teachers=self.teachers, cache=self.cache)

    @property
    def source(self) -> str:
        """Who teaches, in words."""
        return "the original" if self.teachers is None else " and ".join(t.reference for t in self.teachers)
