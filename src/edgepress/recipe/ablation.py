"""What a recipe can do without: itself with one step, or one ingredient of a step, left out. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edgepress.recipe.schema import Recipe
from edgepress.recipe.steps import Step, StepConfig, Train

WITHOUT: Mapping[str, Mapping[str, Any]] = {
    "prune": {"reconstruct": False, "iterations": 1, "reestimate": False, "learn": None},
    "train": {
        "distill": None, "augment": (), "mixup": 0.0, "cutmix": 0.0, "label_smoothing": 0.0, "ema": 0.0, "clip": 0.0,
    },
    "quantize": {"reconstruct_steps": 0, "awq": False, "equalize": False, "smooth": None, "correct_biases": False},
    "sparsify": {"epochs": 0},
}  # fmt: skip
"""Kind of step -> setting -> its value without that ingredient."""


@dataclass(frozen=True)
class Variant:
    """The recipe without something.

    Attributes:
        name: what is left out, e.g. "1 prune" or "2 train.distill"; steps are counted from 1.
        recipe: `None` where it cannot be left out. reason: why not.
    """

    name: str
    recipe: Recipe | None
    reason: str = ""

    @property
    def slug(self) -> str:
        """The name as a folder."""
        return "without-" + "".join(c if c.isalnum() else "-" for c in self.name)


def variants(recipe: Recipe) -> list[Variant]:
    """The recipe without each step in turn, and without each ingredient of it."""
    found: list[Variant] = []
    for index, item in enumerate(recipe.steps):
        name = f"{index + 1} {item.kind}"
        reason = _indispensable(recipe, index)
        found.append(Variant(name, None if reason else _with_steps(recipe, index, None), reason))
        for label, config in _ingredients(item.kind, item.config, recipe.task):
            found.append(Variant(f"{name}.{label}", _with_steps(recipe, index, config)))
    return found


def _indispensable(recipe: Recipe, index: int) -> str:
    """Why a step cannot be left out, "" if it can."""
    kinds = [item.kind for item in recipe.steps]
    if kinds[index] == "export":
        return "without an export there is no artifact to measure"
    if sum(kind != "export" for kind in kinds) == 1:
        return "it is the only step: without it the network is the baseline, which is measured anyway"
    to_c = any(getattr(item.config, "format", "") == "c" for item in recipe.steps)
    if kinds[index] == "quantize" and to_c and kinds.count("quantize") == 1:
        return "C sources are written from integers only"
    return ""


def _ingredients(kind: str, config: StepConfig, task: str) -> Iterator[tuple[str, StepConfig]]:
    """(name, the settings without it) of everything in the step that is switched on."""
    for name, off in WITHOUT.get(kind, {}).items():
        if getattr(config, name) != off:
            yield name, config.model_copy(update={name: off})
    if isinstance(config, Train) and config.distill:
        yield from _single_losses(config, task)


def _single_losses(config: Train, task: str) -> Iterator[tuple[str, StepConfig]]:
    """Without each of several losses against the teacher; without the last of them there is no teacher: `distill`."""
    assert config.distill is not None
    terms = config.distill.terms(task)
    for position, term in enumerate(terms):
        others = [other for i, other in enumerate(terms) if i != position]
        if any(other.loss != "task" for other in others):
            label = term.loss if [t.loss for t in terms].count(term.loss) == 1 else f"{term.loss}[{position}]"
            yield f"distill.{label}", config.model_copy(update={"distill": config.distill.without(position, task)})


def _with_steps(recipe: Recipe, index: int, config: StepConfig | None) -> Recipe:
    """The recipe with step `index` left out, or with other settings."""
    steps = list(recipe.steps)
    steps[index : index + 1] = [] if config is None else [Step(**{config.kind: config})]
    return recipe.model_copy(update={"steps": tuple(steps)})
