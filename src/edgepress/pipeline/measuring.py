"""Measure baseline and result side by side, on every target: accuracy on the target's own runtime, latency taken in
turns, memory in fresh processes, size, and the difference of each hop from the program it came from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch
from pydantic import Field

from edgepress.data.dataset import Dataset
from edgepress.errors import UserError
from edgepress.measure import environment
from edgepress.measure.device_time import measure_device_time
from edgepress.measure.energy import measure_session_energy
from edgepress.measure.latency import compare_latency
from edgepress.measure.memory import measure_cold_start
from edgepress.measure.modelled import carbon_mass
from edgepress.measure.outcomes import Outcomes, compare_outcomes
from edgepress.measure.record import (
    Answers,
    ClassOutcome,
    Environment,
    ForgottenSample,
    Measurement,
    PairedOutcomes,
    Parity,
    Picture,
    Record,
    Subject,
)
from edgepress.measure.stats.jackknife import pseudo_values
from edgepress.measure.throughput import measure_throughput
from edgepress.pipeline.bench import Bench
from edgepress.pipeline.candidate import Candidate, counted, subject
from edgepress.pipeline.firmware import measure_firmware
from edgepress.pipeline.first_samples import first_feed
from edgepress.pipeline.fragility import group_sensitivity
from edgepress.pipeline.hops import PARITY_SAMPLES, fitting, fixed_batch, hops, run_session
from edgepress.recipe.schema import Measure
from edgepress.targets import Target
from edgepress.targets.runtimes import Session, open_session
from edgepress.train.evaluate import evaluate_outputs

BOUNDED_METRICS = {"accuracy", "mean_iou", "map_50", "auc", "f1"}  # shares of 1; the others have the unit of the data
Array = np.ndarray


class Measured(Record):
    """All that was measured in one go. `answers` is there per target if there are several."""

    environment: Environment
    baseline: Subject
    compressed: Subject
    paired: PairedOutcomes | None = None
    classes: tuple[ClassOutcome, ...] = ()
    parity: tuple[Parity, ...] = ()
    forgotten: tuple[ForgottenSample, ...] = ()
    answers: Mapping[str, Answers] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sensitivity: Mapping[str, Mapping[str, float]] = Field(default_factory=dict)
    pictures: tuple[Picture, ...] = ()


def measure(bench: Bench, settings: Measure, baseline: Candidate, compressed: Candidate) -> Measured:
    """Measure both candidates on every target of the bench."""
    pair = (baseline, compressed)
    found: dict[str, list[Measurement]] = {c.name: counted(c, bench.targets, settings.modelled_energy) for c in pair}
    tour = _Tour(bench, settings, pair, found)
    for target in bench.targets:
        tour.visit(target)
    outcomes = next(iter(tour.outcomes.values()), None)
    several = tour.outcomes if len(tour.outcomes) > 1 else {}
    return Measured(
        environment=environment.describe(tuple(dict.fromkeys(tour.warnings)), tour.machine, _power_mode(bench.targets)),
        baseline=subject(baseline, found["baseline"], bench.targets),
        compressed=subject(compressed, found["compressed"], bench.targets),
        paired=outcomes.paired if outcomes else None,
        classes=outcomes.classes if outcomes else (),
        forgotten=outcomes.forgotten if outcomes else (),
        parity=tuple(tour.parity),
        sensitivity=group_sensitivity(bench) if settings.sensitivity else {},
        answers={target: Answers(paired=o.paired, classes=o.classes) for target, o in several.items()},
        pictures=tuple(tour.pictures),
        notes=tuple(tour.notes),
    )


def _power_mode(targets: Sequence[Target]) -> str:
    """What the first target asks for that asks for any."""
    return next((target.power_mode for target in targets if target.power_mode), "")


class _Tour:
    """All targets, one after another, and what was found on them."""

    def __init__(
        self, bench: Bench, settings: Measure, pair: tuple[Candidate, ...], found: dict[str, list[Measurement]]
    ) -> None:
        self._bench, self._settings, self._pair, self._found = bench, settings, pair, found
        self.parity: list[Parity] = []
        self.outcomes: dict[str, Outcomes] = {}
        self.warnings: list[str] = []
        self.notes: list[str] = []
        self.pictures: list[Picture] = []
        self.machine: Mapping[str, Any] | None = None  # what a far side says of itself; this machine if none is far
        self._first = True

    def visit(self, target: Target) -> None:
        """Everything that is wanted, on one target."""
        if target.kind == "mcu":
            self._bench.reporter.progress(f"running on an emulated {target.device}")
            program = self._pair[-1].program
            for name, firmware in measure_firmware(self._bench, target, program).items():
                self._found[name] += firmware.measurements
                self.pictures.append(firmware.plan)
            return
        with ExitStack() as stack:
            sessions = {c.name: open_session(c.on(target), target) for c in self._pair}
            for session in sessions.values():
                stack.callback(session.close)
            self._measure(target, sessions)
        self._first = False

    def _measure(self, target: Target, sessions: Mapping[str, Session]) -> None:
        visit = _Visit(self._bench, self._settings, target)
        self.machine = self.machine or getattr(sessions["compressed"], "machine", None)
        self.warnings += visit.latency(sessions, self._found)
        visit.throughput(self._pair, sessions, self._found)
        visit.energy(sessions, self._found)
        visit.memory(self._pair, sessions, self._found)
        self.parity += visit.parity(self._pair, sessions, first=self._first, notes=self.notes)
        outcomes = visit.accuracy(sessions, self._found)
        if outcomes:
            self.outcomes[target.name] = outcomes


class _Visit:
    """One target, visited with both candidates."""

    def __init__(self, bench: Bench, settings: Measure, target: Target) -> None:
        self._bench, self._settings, self._target = bench, settings, target
        self._dataset = bench.samples.evaluate

    def latency(self, sessions: Mapping[str, Session], found: dict[str, list[Measurement]]) -> tuple[str, ...]:
        """Interleaved latency of both; returns what made it doubtful."""
        plan = self._settings.latency
        if plan is None:
            return ()
        self._bench.reporter.progress(f"latency on {self._target.name}")
        latencies = compare_latency(
            sessions,
            {name: self._feed(session, plan.batch) for name, session in sessions.items()},
            runs=plan.runs,
            warmup=plan.warmup,
            seed=self._bench.seed,
            target=self._target.name,
        )
        for name, measurements in latencies.items():
            found[name] += measurements
            feed = self._feed(sessions[name], plan.batch)
            found[name] += measure_device_time(sessions[name], feed, runs=plan.runs, target=self._target.name)
        return tuple(latencies.warnings)

    def energy(self, sessions: Mapping[str, Session], found: dict[str, list[Measurement]]) -> None:
        """Energy of one inference by the target's meters, or the reason why there is no number."""
        if not self._settings.energy:
            return
        for name, session in sessions.items():
            self._bench.reporter.progress(f"energy of {name} on {self._target.name}")
            energies = measure_session_energy(session, self._feed(session, 1), self._target)
            found[name] += energies
            if self._settings.grid is not None:
                grid = self._settings.grid
                found[name].append(carbon_mass(energies[0], grid.grams_per_kwh, grid.source))

    def throughput(
        self, candidates: tuple[Candidate, ...], sessions: Mapping[str, Session], found: dict[str, list[Measurement]]
    ) -> None:
        """Samples per second with several callers at once."""
        callers = self._settings.callers
        for candidate in candidates if callers else ():
            self._bench.reporter.progress(f"throughput of {candidate.name} on {self._target.name}")
            opener = partial(open_session, candidate.on(self._target), self._target)
            feed = self._feed(sessions[candidate.name], 1)
            found[candidate.name].append(measure_throughput(opener, feed, callers=callers, target=self._target.name))

    def memory(
        self, candidates: tuple[Candidate, ...], sessions: Mapping[str, Session], found: dict[str, list[Measurement]]
    ) -> None:
        """Load time, first inference and peak memory, each in a fresh process."""
        if not self._settings.memory:
            return
        for candidate in candidates:
            self._bench.reporter.progress(f"memory of {candidate.name} on {self._target.name}")
            feed = self._feed(sessions[candidate.name], 1)
            found[candidate.name] += measure_cold_start(
                candidate.on(self._target), self._target, feed, repeats=self._settings.cold_starts
            )

    def parity(
        self, candidates: tuple[Candidate, ...], sessions: Mapping[str, Session], *, first: bool, notes: list[str]
    ) -> list[Parity]:
        """How far each artifact on this runtime is from the program it was made from, on the same samples.

        Args:
            first: whether this is the first target: the hops that no target takes part in are taken there.
        """
        inputs = self._some_inputs(PARITY_SAMPLES)
        classes = self._bench.task.name == "classification"
        result: list[Parity] = []
        for candidate in candidates:
            self._bench.reporter.progress(f"parity of {candidate.name} on {self._target.name}")
            onnx, session = candidate.files.get("onnx"), sessions[candidate.name]
            result += hops(
                candidate.name, candidate.program, onnx, session, self._target, inputs,
                classes=classes, with_reference=first, note=notes.append,
            )  # fmt: skip
        return result

    def accuracy(self, sessions: Mapping[str, Session], found: dict[str, list[Measurement]]) -> Outcomes | None:
        """The task's metric on this runtime; for classification also every sample paired."""
        dataset = self._dataset
        if not self._settings.accuracy or dataset is None or dataset.targets is None:
            return None
        self._bench.reporter.progress(f"accuracy on {self._target.name}")
        outcomes = None
        if self._bench.task.name == "classification":
            outcomes = self._paired(sessions, dataset, found)
            if self._bench.task.metric == "accuracy":
                return outcomes
        for name, session in sessions.items():
            found[name].append(self._task_metric(session, dataset))
        return outcomes

    def _paired(self, sessions: Mapping[str, Session], data: Dataset, found: dict[str, list[Measurement]]) -> Outcomes:
        assert data.targets is not None
        scores = {name: run_session(session, data.inputs)[0] for name, session in sessions.items()}
        outcomes = compare_outcomes(
            scores["baseline"],
            scores["compressed"],
            data.targets.numpy(),
            class_names=data.classes or None,
            images=data.inputs[0].numpy() if data.inputs[0].dim() in (3, 4) else None,
            slices=data.slices,
            target=self._target.name,
            data=data.digest,
        )
        found["baseline"] += outcomes.first
        found["compressed"] += outcomes.second
        return outcomes

    def _task_metric(self, session: Session, dataset: Dataset) -> Measurement:
        """The metric of a task whose samples are not simply right or wrong, with its spread over blocks of samples."""
        task = self._bench.task
        outputs = torch.from_numpy(run_session(session, dataset.inputs)[0])

        def value_on(rows: np.ndarray) -> float:
            part = dataset.subset(torch.from_numpy(rows))
            try:
                return evaluate_outputs(outputs[rows], part, task)
            except UserError:  # a part may lack one of two classes
                return math.nan

        value = evaluate_outputs(outputs, dataset, task)
        return Measurement(
            name=task.metric,
            value=value,
            unit="ratio" if task.metric in BOUNDED_METRICS else "",
            n=len(dataset),
            better="higher" if task.higher_is_better else "lower",
            method=f"{len(dataset)} samples on {session.describe()}",
            target=self._target.name,
            data=dataset.digest,
            blocks=pseudo_values(value_on, len(dataset), value),
        )

    def _some_inputs(self, samples: int) -> tuple[torch.Tensor, ...]:
        dataset = self._dataset or self._bench.samples.train
        return (
            self._bench.original.example_inputs if dataset is None else dataset.take(samples, self._bench.seed).inputs
        )

    def _feed(self, session: Session, batch: int) -> dict[str, Array]:
        size, original = fixed_batch(session) or batch, self._bench.original
        given = self._some_inputs(size)
        if given is original.example_inputs:
            return fitting(first_feed(original, given, size), session)
        return fitting({n: t.numpy() for n, t in zip(original.input_names, given, strict=True)}, session)
