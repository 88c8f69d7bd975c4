"""The recipe as a whole, and its JSON Schema for editors."""

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PlainSerializer, PositiveInt, model_validator

from edgepress.errors import UserError
from edgepress.gate.budget import Budget, check_consistent
from edgepress.recipe.data import Data
from edgepress.recipe.model import ModelSource
from edgepress.recipe.section import Section, problem
from edgepress.recipe.steps import Step

SCHEMA_VERSION = 1

Task = Literal[
    "classification",
    "binary",
    "segmentation",
    "detection",
    "language",
    "regression",
    "reconstruction",
    "anomaly",
    "generation",
]


class LatencyPlan(Section):
    """How latency is taken: `runs` timed after `warmup` untimed ones, interleaved with the baseline.

    Attributes:
        threads: of the runtime; each target's own number without one.
    """

    runs: PositiveInt = 200
    warmup: NonNegativeInt = 20
    batch: PositiveInt = 1
    threads: PositiveInt | None = None


class ModelledEnergy(Section):
    """Energy by arithmetic instead of by meter (45 nm, Horowitz 2014): ranks networks, predicts no device.

    Attributes:
        number_format: of the result; the baseline counts as float32. memory: where weights and activations lie.
    """

    number_format: Literal["float32", "float16", "int8"] = "int8"
    memory: Literal["dram", "sram"] = "dram"


class Grid(Section):
    """What a kilowatt-hour emits: `grams_per_kwh` of CO2, and the source of that figure."""

    grams_per_kwh: Annotated[float, Field(ge=0)]
    source: Annotated[str, Field(min_length=1)]


class Measure(Section):
    """What is measured on baseline and result; `latency: null` leaves it out.

    Attributes:
        memory: cold starts, `cold_starts` fresh processes per model: load time, first inference, peak memory.
        energy: needs a meter of the target: without one the report says why there is no number.
        sensitivity: cuts every group of channels alone and reports how far the loss rises: the heat map of the report.
        callers: throughput with so many callers at once; 0 leaves it out.
        modelled_energy: an estimate beside the measurement, labelled as such. grid: CO2 of energy that was measured.
    """

    latency: LatencyPlan | None = LatencyPlan()
    accuracy: bool = True
    memory: bool = True
    cold_starts: PositiveInt = 5
    energy: bool = True
    sensitivity: bool = False
    callers: NonNegativeInt = 0
    modelled_energy: ModelledEnergy | None = None
    grid: Grid | None = None


def _limits_only(budget: Budget) -> dict[str, Any]:
    return budget.model_dump(exclude_none=True)


_WrittenBudget = Annotated[Budget, PlainSerializer(_limits_only, return_type=dict[str, Any])]


class Recipe(Section):
    """Everything a run needs to know.

    Attributes:
        name: names the run; also the default folder, `runs/<name>`.
        seed: every random choice follows from it. threads: torch's, fixed so that results are reproducible.
        metric: what the task is judged by instead of its usual one, such as `f1` for classification.
        steps: worked off in this order. targets: names of target files, or paths to them.
        budgets: what the result may cost; judged by the gate.
    """

    schema_version: Literal[1] = Field(alias="schema")
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    threads: PositiveInt = 2
    model: ModelSource
    data: Data = Data()
    task: Task = "classification"
    metric: Annotated[str, Field(pattern=r"^[a-z0-9_]*$")] = ""
    steps: tuple[Step, ...] = ()
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = ("local-cpu",)
    measure: Measure = Measure()
    budgets: tuple[_WrittenBudget, ...] = ()

    @model_validator(mode="after")
    def _data_for_every_need(self) -> "Recipe":
        for number, item in enumerate(self.steps):
            for need in sorted(item.config.needs()):
                self._require(need, f"steps.{number}.{item.kind}", at=f"steps.{number}")
        if self.measure.accuracy:
            self._require("evaluate", "measure.accuracy", at="measure", way_out=", or set measure.accuracy to false")
        if self.measure.sensitivity:
            self._require("train", "measure.sensitivity", at="measure", way_out=", or set measure.sensitivity to false")
        return self

    @model_validator(mode="after")
    def _budgets_can_all_hold(self) -> "Recipe":
        try:
            check_consistent(self.budgets)
        except UserError as error:
            raise problem(error.what, at="budgets", found=error.found, expected=error.expected, fix=error.fix) from None
        return self

    def _require(self, need: str, who: str, *, at: str, way_out: str = "") -> None:
        if getattr(self.data, need) is None:
            raise problem(
                f"{who} needs data.{need}",
                at=at,
                found=f"no data.{need}",
                expected="a data source",
                fix=f"add data.{need}, e.g. {{kind: npz, path: {need}.npz}}{way_out}",
            )


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a recipe, for editors that complete and check YAML."""
    schema = Recipe.model_json_schema(by_alias=True, mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "edgepress recipe"}
