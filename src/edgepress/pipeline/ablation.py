"""`edgepress run --ablate`: the recipe, then itself with one thing left out at a time, and what each thing brought.

    evidence.json, report.html, steps/       the whole recipe with its own seed: an ordinary run
    ablation/seed-1/                         the whole recipe with the next seed
    ablation/seed-0/without-2-train/         evidence of a recipe with something left out
    ablation.json, ablation.md               the table

All of them share one store: what does not depend on the thing left out is made once. Killed at any moment, the same
command goes on.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from edgepress.errors import UserError
from edgepress.measure import environment
from edgepress.measure.record import Ablation, AblationRow, Measurement
from edgepress.measure.stats.gains import Gain, gain_of_answers, gain_of_metrics, gain_of_runs
from edgepress.measure.stats.pairing import answers
from edgepress.pipeline.bench import Bench, Reporter
from edgepress.pipeline.measuring import BOUNDED_METRICS
from edgepress.pipeline.run import RunOutcome, carry_out, set_up
from edgepress.pipeline.store import RunStore
from edgepress.recipe import Recipe
from edgepress.recipe.ablation import Variant, variants
from edgepress.train import Task
from edgepress.train.randomness import reproducible

TABLE = "ablation.json"
FIGURES = ("size_bytes", "macs", "params", "latency_ms")


@dataclass(frozen=True)
class Trial:
    """One run of a variant: its figures, and the scores of samples or blocks of them, `None` where none were kept."""

    figures: Mapping[str, float]
    scores: np.ndarray | None


@dataclass(frozen=True)
class AblationOutcome:
    """The ordinary run of the whole recipe, and the table."""

    whole: RunOutcome
    ablation: Ablation


def ablate(recipe: Recipe, out: Path, *, seeds: int, device: str, reporter: Reporter) -> AblationOutcome:
    """Run a recipe and its variants with `seeds` seeds each, from the recipe's own seed on.

    Raises:
        UserError: no evaluation data; and what the whole recipe raises. What a variant raises becomes its row's reason.
    """
    _check_judged(recipe)
    torch.set_num_threads(recipe.threads)
    with reproducible(), RunStore(out) as store:
        series = [_Series(recipe, seed, device, reporter, store) for seed in range(seeds)]
        whole = [one.whole() for one in series]
        trials = [one.trial(outcome) for one, outcome in zip(series, whole, strict=True)]
        rows = [_row(variant, series, trials) for variant in variants(recipe)]
        ablation = _assemble(recipe, series[0].bench, trials, rows, [one.recipe.seed for one in series])
        store.put(TABLE, ablation.model_dump_json(indent=1) + "\n")
        return AblationOutcome(whole[0], ablation)


def _check_judged(recipe: Recipe) -> None:
    if recipe.data.evaluate is None or not recipe.measure.accuracy:
        found = "no data.evaluate" if recipe.data.evaluate is None else "measure.accuracy: false"
        raise UserError("an ablation compares accuracies", found=found, expected="evaluation data",
                        fix="add data.evaluate, and leave measure.accuracy on")  # fmt: skip


class _Series:
    """The recipe and its variants with one seed, on one bench: calibration samples are the same for all."""

    def __init__(self, recipe: Recipe, number: int, device: str, reporter: Reporter, store: RunStore) -> None:
        self.recipe = recipe.model_copy(update={"seed": recipe.seed + number})
        self.bench = set_up(self.recipe, device, reporter)
        self._number, self._store, self._reporter = number, store, reporter

    def whole(self) -> RunOutcome:
        """The whole recipe; with the recipe's own seed it is the run that the directory is of."""
        self._reporter.tell(f"the whole recipe, seed {self.recipe.seed}")
        own = self._store if self._number == 0 else self._store.branch(self._folder)
        return carry_out(self.recipe, self.bench, own)

    def without(self, variant: Variant) -> Trial:
        """The variant with this seed.

        Raises:
            UserError: the recipe does not work without it.
        """
        assert variant.recipe is not None
        self._reporter.tell(f"without {variant.name}, seed {self.recipe.seed}")
        recipe = variant.recipe.model_copy(update={"seed": self.recipe.seed})
        return self.trial(carry_out(recipe, self.bench, self._store.branch(f"{self._folder}/{variant.slug}")))

    def trial(self, outcome: RunOutcome) -> Trial:
        """What is compared of a run."""
        assert outcome.evidence is not None
        evidence, task = outcome.evidence, self.bench.task
        # Where no target measures the metric (microcontrollers alone), the last step's own figure stands for it.
        last = evidence.steps[-1].after
        figures = {task.metric: last[task.metric]} if task.metric in last else {}
        found = {name: m.value for name in (task.metric, *FIGURES) if (m := evidence.compressed.measurement(name))}
        figures |= {name: value for name, value in found.items() if value is not None}
        return Trial(figures, _scores(evidence.compressed.measurement(task.metric), task))

    @property
    def _folder(self) -> str:
        return f"ablation/seed-{self.recipe.seed}"


def _row(variant: Variant, series: Sequence[_Series], whole: Sequence[Trial]) -> AblationRow:
    if variant.recipe is None:
        return AblationRow(name=variant.name, reason=variant.reason)
    try:
        trials = [one.without(variant) for one in series]
    except UserError as error:
        return AblationRow(name=variant.name, reason=f"the recipe does not work without it: {error.what}")
    gain = _gain(series[0].bench.task, whole, trials)
    return AblationRow(
        name=variant.name,
        figures=_means(trials),
        gain=gain.value,
        low=gain.low,
        high=gain.high,
        p_value=gain.p_value,
        reason="" if gain.low is not None else "no samples were kept to compare: limits need --seeds 2 or more",
    )


def _gain(task: Task, whole: Sequence[Trial], without: Sequence[Trial]) -> Gain:
    sign = 1 if task.higher_is_better else -1
    metrics = [[sign * t.figures[task.metric] for t in trials] for trials in (whole, without)]
    overall = gain_of_metrics(metrics[0], metrics[1])
    scores = [[t.scores for t in trials if t.scores is not None] for trials in (whole, without)]
    if not len(scores[0]) == len(scores[1]) == len(whole):
        return overall
    if len(whole) == 1 and _are_answers(scores[0][0]):
        return gain_of_answers(scores[0][0], scores[1][0])
    return gain_of_runs(overall.value, scores[0], scores[1])


def _means(trials: Sequence[Trial]) -> dict[str, float]:
    shared = [name for name in trials[0].figures if all(name in t.figures for t in trials)]
    return {name: float(np.mean([t.figures[name] for t in trials])) for name in shared}


def _assemble(
    recipe: Recipe, bench: Bench, whole: Sequence[Trial], rows: Sequence[AblationRow], seeds: Sequence[int]
) -> Ablation:
    assert bench.samples.evaluate is not None
    return Ablation(
        name=recipe.name,
        command=shlex.join(sys.argv),
        seeds=tuple(seeds),
        metric=bench.task.metric,
        better="higher" if bench.task.higher_is_better else "lower",
        bounded=bench.task.metric in BOUNDED_METRICS,
        samples=len(bench.samples.evaluate),
        method=_method(whole),
        whole=AblationRow(name="", figures=_means(whole)),
        rows=tuple(rows),
        environment=environment.describe(),
    )


def _method(whole: Sequence[Trial]) -> str:
    scores = whole[0].scores
    if scores is None:
        return "Student's limits over the seeds"
    if len(whole) == 1 and _are_answers(scores):
        return "paired on the samples: Tango's limits, McNemar's exact test"
    paired = "the samples" if _are_answers(scores) else "blocks of samples (jackknife)"
    seeds = f" and over the {len(whole)} seeds, added up" if len(whole) > 1 else ""
    return f"Student's limits, paired on {paired}{seeds}"


def _scores(metric: Measurement | None, task: Task) -> np.ndarray | None:
    """Right or wrong of each sample, or the metric's pseudo-values over blocks of them; larger is better."""
    if metric is None:
        return None
    kept = answers(metric)
    if kept is not None:
        return np.asarray(kept, np.float64)
    sign = 1 if task.higher_is_better else -1
    return sign * np.asarray(metric.blocks) if metric.blocks else None


def _are_answers(scores: np.ndarray) -> bool:
    return bool(np.isin(scores, (0, 1)).all())
