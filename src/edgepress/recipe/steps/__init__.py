"""The steps a recipe may hold. A new kind is one file here and one line in `STEP_KINDS`."""

from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, create_model, model_validator

from edgepress.recipe.section import Section, exactly_one
from edgepress.recipe.steps.export import Export
from edgepress.recipe.steps.prune import Prune
from edgepress.recipe.steps.quantize import Quantize
from edgepress.recipe.steps.sparsify import Sparsify
from edgepress.recipe.steps.step import StepConfig
from edgepress.recipe.steps.train import Train

STEP_KINDS: tuple[type[StepConfig], ...] = (
    Prune,
    Sparsify,
    Train,
    Quantize,
    Export,
)


class StepItem(Section):
    """One item of `steps:`, a mapping of exactly one kind to its settings."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    @property
    def kind(self) -> str:
        """The key of the item: "prune", "train", ..."""
        return next(kind for kind, value in self._given().items() if value is not None)

    @property
    def config(self) -> StepConfig:
        """The settings of the step."""
        config: StepConfig = self._given()[self.kind]
        return config

    def _given(self) -> dict[str, Any]:
        return {kind: getattr(self, kind) for kind in type(self).model_fields}

    @model_validator(mode="after")
    def _one_kind(self) -> "StepItem":
        exactly_one("a step", self._given())
        return self


if TYPE_CHECKING:
    Step = StepItem
else:
    _FIELDS = {kind.kind: (kind | None, None) for kind in STEP_KINDS}
    Step = create_model("Step", __base__=StepItem, __doc__=StepItem.__doc__, **_FIELDS)

__all__ = ["STEP_KINDS", "Export", "Prune", "Quantize", "Sparsify", "Step", "StepConfig", "StepItem", "Train"]
