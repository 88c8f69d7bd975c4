"""`sparsify:` set single weights to zero."""

from typing import Annotated, ClassVar

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from edgepress.analysis.pruning_terms import SparsityMethod, SparsityScope
from edgepress.recipe.section import problem
from edgepress.recipe.steps.step import Need, StepConfig


class Sparsify(StepConfig):
    """Zeros that stay through training and quantization.

    Attributes:
        method: `magnitude`, `wanda` (size times what is read), `sparsegpt` (the others make up for what goes).
        sparsity: share of zeros; not with `pattern`. scope: `layer`: the same share of each; `network`: one threshold
            on LAMP scores, so that layers that need their weights stay denser.
        pattern: `N:M`: of every M weights in a row along the input, N stay.
        ignore: regular expressions of weights left dense. samples: calibration samples, where the method reads data.
        epochs: reach the sparsity gradually, by magnitude, over this many epochs of training (Zhu & Gupta 2017); 0
            masks at once. lr, batch_size: of that training.
    """

    kind: ClassVar[str] = "sparsify"
    method: SparsityMethod = "magnitude"
    sparsity: Annotated[float, Field(gt=0, lt=1)] | None = None
    scope: SparsityScope = "layer"
    pattern: Annotated[str, Field(pattern=r"^[1-9][0-9]*:[1-9][0-9]*$")] | None = None
    ignore: tuple[str, ...] = ()
    samples: PositiveInt | None = None
    epochs: NonNegativeInt = 0
    lr: PositiveFloat = 0.001
    batch_size: PositiveInt = 64

    @property
    def kept_of(self) -> tuple[int, int] | None:
        """(N, M) of the pattern."""
        if self.pattern is None:
            return None
        n, _, m = self.pattern.partition(":")
        return int(n), int(m)

    def needs(self) -> frozenset[Need]:
        return frozenset({"train"}) if self.method != "magnitude" or self.epochs else frozenset()

    @model_validator(mode="after")
    def _one_goal(self) -> "Sparsify":
        if (self.sparsity is None) == (self.pattern is None):
            raise problem(
                "sparsify has no goal" if self.sparsity is None else "sparsify has two goals",
                found="neither sparsity nor pattern" if self.sparsity is None else "sparsity and pattern",
                expected="one of them",
                fix="e.g. sparsity: 0.7, or pattern: '2:4'",
            )
        if self.epochs and self.method != "magnitude":
            raise problem(
                "gradual sparsity goes by magnitude",
                found=f"method: {self.method}, epochs: {self.epochs}",
                expected="method: magnitude, or epochs: 0",
                fix="remove one of the two",
            )
        return self
