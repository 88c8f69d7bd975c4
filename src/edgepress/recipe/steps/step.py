"""What all step settings share."""

from typing import ClassVar, Literal

from edgepress.recipe.model import Network
from edgepress.recipe.section import Section

Need = Literal["train", "evaluate"]


class StepConfig(Section):
    """Settings of one kind of step.

    Attributes:
        kind: its key in a recipe.
    """

    kind: ClassVar[str]

    def needs(self) -> frozenset[Need]:
        """The data sources without which the step cannot run."""
        return frozenset()

    def networks(self) -> tuple[Network, ...]:
        """Networks beside the recipe's own that the step wants."""
        return ()
