"""Put together what a run found out."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime

from edgepress import __version__
from edgepress.data import Dataset
from edgepress.measure.record import Evidence, RefusalRecord, StepRecord
from edgepress.pipeline.measuring import Measured
from edgepress.pipeline.samples import Samples
from edgepress.pipeline.steps import StepResult
from edgepress.recipe import Recipe
from edgepress.train.tasks import Task

WORTH_A_NOTE = 0.005  # share of the metric


def step_record(
    kind: str, number: int, result: StepResult, before: dict[str, float], after: dict[str, float]
) -> StepRecord:
    """The record of a step, without its duration: equal runs write equal records."""
    name = f"{number:02d}-{kind}"
    return StepRecord(
        name=name,
        kind=kind,
        changed=result.changed,
        summary=result.summary,
        facts=dict(result.facts),
        before=before,
        after=after,
        refusals=tuple(RefusalRecord(step=name, node=r.node, found=r.found, needed=r.needed) for r in result.refusals),
    )


def assemble(
    recipe: Recipe, measured: Measured, steps: Sequence[StepRecord], *, command: Sequence[str], notes: Sequence[str]
) -> Evidence:
    """The evidence of a finished run."""
    return Evidence(
        name=recipe.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        edgepress_version=__version__,
        command=shlex.join(["edgepress", *command[1:]]),
        seed=recipe.seed,
        recipe=recipe.model_dump(mode="json", by_alias=True),
        environment=measured.environment,
        baseline=measured.baseline,
        compressed=measured.compressed,
        paired=measured.paired,
        classes=measured.classes,
        parity=measured.parity,
        steps=tuple(steps),
        forgotten=measured.forgotten,
        answers=measured.answers,
        sensitivity=measured.sensitivity,
        pictures=measured.pictures,
        notes=(*notes, *measured.notes),
    )


def loss_notes(records: Sequence[StepRecord], task: Task) -> list[str]:
    """Where a quantize step that cost more than `WORTH_A_NOTE` of the metric lost it."""
    notes = []
    for record in (r for r in records if r.kind == "quantize" and "noise" in r.facts):
        before, after = record.before.get(task.metric), record.after.get(task.metric)
        if before is None or after is None:
            continue
        loss = (before - after) * (1 if task.higher_is_better else -1)
        if loss > WORTH_A_NOTE * abs(before):
            change = f"{task.metric} {before:.4g} -> {after:.4g}"
            notes.append(f"{record.name} cost accuracy ({change}): {record.facts['noise']}; "
                         "`edgepress compare RUN --layers` tries what would mend it")  # fmt: skip
    return notes


def weights_note(recipe: Recipe) -> list[str]:
    """A function may load its weights itself; where it does not, everything below is about an untrained network."""
    if recipe.model.factory is None or recipe.model.weights is not None:
        return []
    return [f"no `model.weights`: the weights are those that {recipe.model.factory.rpartition('/')[2]} made"]


CLASSES_SHOWN = 12


def _balance(dataset: Dataset) -> list[str]:
    """How many samples each class has: by name, or the least and the most where there are many."""
    counts = dataset.class_balance()
    if not counts:
        return []
    if len(counts) > CLASSES_SHOWN:
        return [f"{len(counts)} classes of {min(counts.values())} to {max(counts.values())} samples"]
    return [f"by class {' / '.join(f'{name}: {count}' for name, count in counts.items())}"]


def data_notes(samples: Samples) -> list[str]:
    """What a reader should know about the data."""
    notes = []
    for name, dataset in (("training", samples.train), ("evaluation", samples.evaluate)):
        if dataset is not None:
            facts = [dataset.source, f"{len(dataset)} samples", *_balance(dataset), f"sha256 {dataset.digest[:12]}"]
            notes.append(f"{name} data: {', '.join(facts)}")
    if samples.calibration is not None:
        notes.append(f"calibration: {len(samples.calibration)} samples drawn by seed from the training data")
    if samples.excluded:
        notes.append(
            f"{samples.excluded} training samples also occur in the evaluation data; calibration left them out"
        )
    return notes
