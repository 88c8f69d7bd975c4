"""What was measured, as data: the only thing `gate` and `report` need to see.

Everything here is a frozen pydantic model: JSON in, JSON out, validated both ways. Units live in the measurement's
name (`latency_ms`, `size_bytes`); an unknown value is `None` with a reason, never 0.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Source = Literal["measured", "counted", "modelled", "published"]
"""Where a number comes from. Numbers from different sources are never compared with one another."""


class Record(BaseModel):
    """Base of all records: frozen, and strict about unknown fields so that a typo cannot hide."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Measurement(Record):
    """One number and what it is worth.

    Attributes:
        name: metric with its unit as suffix, e.g. `latency_ms`, `size_bytes`, `accuracy`.
        value: the estimate, in the unit of the name; `None` if unknown.
        unit: `ms`, `bytes`, `mJ`, `ratio`, `count`, ...
        n: how many independent observations are behind the value.
        low, high: 95 % confidence interval of the value, where n supports one.
        samples: the observations themselves where later statistics need them (e.g. interleaved latencies).
        method: how it was obtained, in words ("onnxruntime 1.31, 1 thread, batch 1, interleaved").
        source: measured, counted (exact, deterministic), modelled or published.
        better: which direction is an improvement.
        target: the target it was measured on, "" if it does not depend on one.
        reason: why `value` is `None`.
        data: sha256 of the samples it was measured on; values of equal data are compared sample by sample.
        right: of an accuracy, right or wrong of each sample, in order (`measure.stats.pairing.pack`).
        blocks: of another metric over samples, its jackknife pseudo-values over blocks of them; the same blocks for
            every model measured on the same data (`measure.stats.jackknife`).
    """

    name: str
    value: float | None
    unit: str
    n: int = 1
    low: float | None = None
    high: float | None = None
    samples: tuple[float, ...] = ()
    method: str = ""
    source: Source = "measured"
    better: Literal["lower", "higher"] = "lower"
    target: str = ""
    reason: str = ""
    data: str = ""
    right: str = ""
    blocks: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _unknown_has_a_reason(self) -> "Measurement":
        if self.value is None and not self.reason:
            raise ValueError(f"{self.name}: an unknown value needs a reason")
        return self


class LayerCost(Record):
    """Static cost of one node. Counts are per example input (batch 1).

    Attributes:
        params: number of parameter elements. macs: multiply-accumulates. activation_bytes: bytes of its output.
    """

    name: str
    op: str
    params: int
    macs: int
    activation_bytes: int
    output_shape: tuple[int | str, ...] = ()


class PairedOutcomes(Record):
    """Right/wrong of two models on the same samples; what McNemar's test and churn need.

    Attributes:
        both, only_first, only_second, neither: number of samples that are right under (first, second).
        flips: samples whose prediction differs, right or wrong (prediction churn).
    """

    both: int
    only_first: int
    only_second: int
    neither: int
    flips: int

    @property
    def n(self) -> int:
        return self.both + self.only_first + self.only_second + self.neither


class ClassOutcome(Record):
    """Outcome of one class or one slice of the data ("night", "speaker 7"), paired."""

    label: str
    outcomes: PairedOutcomes
    kind: Literal["class", "slice"] = "class"


class ForgottenSample(Record):
    """A sample the baseline had right and the compressed model has wrong.

    Attributes:
        index: row in the evaluation set. image_png: base64 PNG for image tasks, "" otherwise.
    """

    index: int
    label: str
    predicted: str
    image_png: str = ""


class Parity(Record):
    """Difference of two hops of the same model on the same samples (e.g. program against onnxruntime).

    Attributes:
        max_abs, mean_abs: absolute output error. flip_rate: share of samples whose prediction differs.
    """

    first: str
    second: str
    n: int
    max_abs: float
    mean_abs: float
    flip_rate: float | None = None
    first_divergent_layer: str = ""


class Answers(Record):
    """What baseline and compressed model answered on one target, paired; all samples and per class or slice."""

    paired: PairedOutcomes
    classes: tuple[ClassOutcome, ...] = ()


class Subject(Record):
    """One model as it was measured: the baseline, or what came out.

    Attributes:
        name: "baseline" or "compressed" (or any label). artifact: path relative to the run, "" if none.
        artifacts: target -> path of the file that ran there, where targets run different ones.
        digest: sha256 of the artifact or program. layers: static per-node costs.
    """

    name: str
    format: str = ""
    artifact: str = ""
    artifacts: Mapping[str, str] = Field(default_factory=dict)
    digest: str = ""
    measurements: tuple[Measurement, ...] = ()
    layers: tuple[LayerCost, ...] = ()

    def measurement(self, name: str, target: str = "") -> Measurement | None:
        """The measurement of that name (and target, if given), or `None`."""
        matches = (m for m in self.measurements if m.name == name and target in ("", m.target))
        return next(matches, None)


class RefusalRecord(Record):
    """Why something was not done: the node, what was found, what would have been needed."""

    step: str
    node: str
    found: str
    needed: str


class StepRecord(Record):
    """What one step did.

    Attributes:
        kind: "prune", "quantize", ... seconds: `None` when the result came from the store. summary: one line.
        facts: small numbers worth showing ("channels_removed": 48). before/after: headline metrics around the step.
    """

    name: str
    kind: str
    changed: bool
    summary: str
    seconds: float | None = None
    reused: bool = False
    facts: Mapping[str, float | int | str] = Field(default_factory=dict)
    before: Mapping[str, float] = Field(default_factory=dict)
    after: Mapping[str, float] = Field(default_factory=dict)
    refusals: tuple[RefusalRecord, ...] = ()


class Environment(Record):
    """Where the numbers were taken. `machine_class` decides whether timings of two runs may be compared."""

    machine_class: str
    os: str
    cpu: str
    cores: int
    memory_bytes: int
    python: str
    tools: Mapping[str, str] = Field(default_factory=dict)
    accelerators: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Picture(Record):
    """A drawing that belongs to the evidence, as SVG text; `title` says in words what it shows."""

    title: str
    svg: str


class Evidence(Record):
    """Everything a run found out: written as `evidence.json`, read by the gate and the report.

    Attributes:
        recipe: the resolved recipe as plain data. command: the command line that reproduces the run.
        paired, classes, forgotten: the answers on the first target that gives some (first = baseline, second =
            compressed). answers: the same per target, where several targets were asked.
        sensitivity: group -> share cut -> rise of the loss, for the heat map.
        pictures: drawings of what was planned (the memory of a microcontroller).
    """

    schema_version: Literal[1] = 1
    name: str
    created: str
    edgepress_version: str
    command: str
    seed: int
    recipe: Mapping[str, object]
    environment: Environment
    baseline: Subject
    compressed: Subject
    paired: PairedOutcomes | None = None
    classes: tuple[ClassOutcome, ...] = ()
    parity: tuple[Parity, ...] = ()
    steps: tuple[StepRecord, ...] = ()
    forgotten: tuple[ForgottenSample, ...] = ()
    answers: Mapping[str, Answers] = Field(default_factory=dict)
    sensitivity: Mapping[str, Mapping[str, float]] = Field(default_factory=dict)
    pictures: tuple[Picture, ...] = ()
    notes: tuple[str, ...] = ()

    def answered_on(self, target: str) -> "Evidence":
        """This evidence with the answers on that target as `paired` and `classes`; itself where there are no others."""
        found = self.answers.get(target)
        return self if found is None else self.model_copy(update={"paired": found.paired, "classes": found.classes})


class AblationRow(Record):
    """What one step or ingredient of a recipe brought.

    Attributes:
        name: what was left out; "" is the whole recipe.
        figures: metric -> value without it, the mean over the seeds.
        gain: what it brought in the task's metric (positive: better with it); low, high: 95 % limits of the gain.
        p_value: two-sided, that it brings nothing; `None` where only limits are known.
        reason: why it was not left out, or why there is no gain.
    """

    name: str
    figures: Mapping[str, float] = Field(default_factory=dict)
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    reason: str = ""


class Ablation(Record):
    """A recipe against itself with one thing left out at a time.

    Attributes:
        metric: the task's. better: which direction of it is an improvement. bounded: whether it is a share of 1.
        samples: of the evaluation set. method: how the limits were found. whole: the full recipe. rows: the others.
    """

    schema_version: Literal[1] = 1
    name: str
    command: str
    seeds: tuple[int, ...]
    metric: str
    better: Literal["lower", "higher"]
    bounded: bool
    samples: int
    method: str
    whole: AblationRow
    rows: tuple[AblationRow, ...]
    environment: Environment
