"""Measure baseline and result side by side, on every target: accuracy on the target's own runtime, latency taken in
turns, memory in fresh processes, size, and the difference of each hop from the program it came from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field

from edgepress.analysis.costs import node_costs
from edgepress.data.dataset import Dataset
from edgepress.errors import UserError
from edgepress.ir import Program
from edgepress.measure import environment
from edgepress.measure.energy import measure_session_energy
from edgepress.measure.latency import compare_latency
from edgepress.measure.memory import measure_cold_start
from edgepress.measure.outcomes import Outcomes, compare_outcomes
from edgepress.measure.parity import compare_outputs
from edgepress.measure.record import (
    ClassOutcome,
    Environment,
    ForgottenSample,
    LayerCost,
    Measurement,
    PairedOutcomes,
    Parity,
    Record,
    Subject,
)
from edgepress.measure.size import measure_size
from edgepress.measure.stats.jackknife import pseudo_values
from edgepress.pipeline.bench import Bench
from edgepress.pipeline.firmware import measure_firmware
from edgepress.pipeline.fragility import group_sensitivity
from edgepress.recipe.schema import Measure
from edgepress.targets import Target
from edgepress.targets.runtimes import Session, open_session
from edgepress.train.evaluate import evaluate_outputs

EVALUATION_BATCH = 64
PARITY_SAMPLES = 256
BOUNDED_METRICS = {"accuracy", "mean_iou", "map_50", "auc", "f1"}  # shares of 1; the others have the unit of the data
Array = np.ndarray


@dataclass(frozen=True)
class Candidate:
    """One model to measure: the program, the artifact made from it, and the artifact's path inside the run."""

    name: str
    program: Program
    artifact: Path
    shown_path: str
    digest: str


class Measured(Record):
    """All that was measured in one go."""

    environment: Environment
    baseline: Subject
    compressed: Subject
    paired: PairedOutcomes | None = None
    classes: tuple[ClassOutcome, ...] = ()
    parity: tuple[Parity, ...] = ()
    forgotten: tuple[ForgottenSample, ...] = ()
    sensitivity: Mapping[str, Mapping[str, float]] = Field(default_factory=dict)


def measure(bench: Bench, settings: Measure, baseline: Candidate, compressed: Candidate) -> Measured:
    """Measure both candidates on every target of the bench."""
    pair = (baseline, compressed)
    found: dict[str, list[Measurement]] = {c.name: static_measurements(c) for c in pair}
    parity: list[Parity] = []
    outcomes: Outcomes | None = None
    warnings: list[str] = []
    machine: Mapping[str, Any] | None = None  # what a far side says of itself; this machine if none is far
    for target in bench.targets:
        if target.kind == "mcu":
            bench.reporter.progress(f"running on an emulated {target.device}")
            for name, measurements in measure_firmware(bench, target, compressed.program).items():
                found[name] += measurements
            continue
        visit = _Visit(bench, settings, target)
        sessions = {c.name: open_session(c.artifact, target) for c in pair}
        try:
            machine = machine or getattr(sessions["compressed"], "machine", None)
            warnings += visit.latency(sessions, found)
            visit.energy(sessions, found)
            visit.memory(pair, found)
            parity += visit.parity(pair, sessions)
            outcomes = visit.accuracy(sessions, found) or outcomes
        finally:
            for session in sessions.values():
                session.close()
    return Measured(
        environment=environment.describe(tuple(dict.fromkeys(warnings)), machine),
        baseline=_subject(baseline, found),
        compressed=_subject(compressed, found),
        paired=outcomes.paired if outcomes else None,
        classes=outcomes.classes if outcomes else (),
        forgotten=outcomes.forgotten if outcomes else (),
        parity=tuple(parity),
        sensitivity=group_sensitivity(bench) if settings.sensitivity else {},
    )


def static_measurements(candidate: Candidate) -> list[Measurement]:
    """What is counted rather than timed: parameters, multiply-accumulates, bytes."""
    costs = node_costs(candidate.program)
    counts = {
        "params": (candidate.program.parameter_count(), "count"),
        "macs": (sum(c.macs for c in costs), "count"),
        "largest_activation_bytes": (max((c.activation_bytes for c in costs), default=0), "bytes"),
    }
    counted = [
        Measurement(name=name, value=value, unit=unit, source="counted", method="counted on the graph, batch 1")
        for name, (value, unit) in counts.items()
    ]
    return [*measure_size(candidate.artifact), *counted]


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
            self._feed(plan.batch),
            runs=plan.runs,
            warmup=plan.warmup,
            seed=self._bench.seed,
            target=self._target.name,
        )
        for name, measurements in latencies.items():
            found[name] += measurements
        return tuple(latencies.warnings)

    def energy(self, sessions: Mapping[str, Session], found: dict[str, list[Measurement]]) -> None:
        """Energy of one inference by the target's meters, or the reason why there is no number."""
        if not self._settings.energy:
            return
        for name, session in sessions.items():
            self._bench.reporter.progress(f"energy of {name} on {self._target.name}")
            found[name] += measure_session_energy(session, self._feed(1), self._target)

    def memory(self, candidates: tuple[Candidate, ...], found: dict[str, list[Measurement]]) -> None:
        """Load time, first inference and peak memory, each in a fresh process."""
        if not self._settings.memory:
            return
        for candidate in candidates:
            self._bench.reporter.progress(f"memory of {candidate.name} on {self._target.name}")
            found[candidate.name] += measure_cold_start(candidate.artifact, self._target, self._feed(1))

    def parity(self, candidates: tuple[Candidate, ...], sessions: Mapping[str, Session]) -> list[Parity]:
        """How far each artifact on this runtime is from the program it was made from, on the same samples."""
        inputs = self._some_inputs(PARITY_SAMPLES)
        class_axis = 1 if self._bench.task.name == "classification" else None
        result = []
        for candidate in candidates:
            ours = _run_program(candidate.program, inputs)
            theirs = run_session(sessions[candidate.name], inputs, _batch_of(candidate.program))
            first, second = f"{candidate.name} program", f"{candidate.name} on {self._target.name}"
            result.append(compare_outputs(first, second, ours, theirs, class_axis=class_axis))
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
        batch = _batch_of(self._bench.original)
        scores = {name: run_session(session, data.inputs, batch)[0] for name, session in sessions.items()}
        outcomes = compare_outcomes(
            scores["baseline"],
            scores["compressed"],
            data.targets.numpy(),
            class_names=data.classes or None,
            images=data.inputs[0].numpy() if data.inputs[0].dim() in (3, 4) else None,
            target=self._target.name,
            data=data.digest,
        )
        found["baseline"] += outcomes.first
        found["compressed"] += outcomes.second
        return outcomes

    def _task_metric(self, session: Session, dataset: Dataset) -> Measurement:
        """The metric of a task whose samples are not simply right or wrong, with its spread over blocks of samples."""
        task = self._bench.task
        outputs = torch.from_numpy(run_session(session, dataset.inputs, _batch_of(self._bench.original))[0])

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
        return self._bench.original.example_inputs if dataset is None else tuple(t[:samples] for t in dataset.inputs)

    def _feed(self, batch: int) -> dict[str, Array]:
        names = self._bench.original.input_names
        size = _batch_of(self._bench.original) or batch
        return {name: t[:size].numpy() for name, t in zip(names, self._some_inputs(size), strict=True)}


def run_session(session: Session, inputs: Sequence[torch.Tensor], batch: int | None) -> list[Array]:
    """Outputs of a session over all samples, batch by batch.

    Args:
        inputs: one tensor (n, ...) per input. batch: the artifact's fixed batch size, `None` if it is free.
    """
    size = batch or EVALUATION_BATCH
    rows: list[list[Array]] = []
    for chunk in zip(*(tensor.split(size) for tensor in inputs), strict=True):
        full, n = _padded(chunk, size) if batch else (chunk, len(chunk[0]))
        feed = {name: t.numpy() for name, t in zip(session.input_names, full, strict=True)}
        rows.append([array[:n] for array in session.run(feed)])
    return [np.concatenate(parts) for parts in zip(*rows, strict=True)]


def _padded(chunk: tuple[torch.Tensor, ...], size: int) -> tuple[tuple[torch.Tensor, ...], int]:
    """The chunk filled up to `size` by repeating its last row, and how many rows are real."""
    n = len(chunk[0])
    return tuple(torch.cat([t, t[-1:].expand(size - n, *t.shape[1:])]) for t in chunk), n


def _run_program(program: Program, inputs: tuple[torch.Tensor, ...]) -> list[Array]:
    module, size = program.module(), _batch_of(program)
    rows = []
    with torch.no_grad():
        for chunk in zip(*(tensor.split(size or EVALUATION_BATCH) for tensor in inputs), strict=True):
            full, n = _padded(chunk, size) if size else (chunk, len(chunk[0]))
            outputs = module(*full)
            flat = outputs if isinstance(outputs, tuple | list) else (outputs,)
            rows.append([t[:n].numpy() for t in flat])
    return [np.concatenate(parts) for parts in zip(*rows, strict=True)]


def _batch_of(program: Program) -> int | None:
    return None if program.dynamic_batch() else int(program.example_inputs[0].shape[0])


def _subject(candidate: Candidate, found: Mapping[str, list[Measurement]]) -> Subject:
    layers = tuple(
        LayerCost(
            name=cost.layer,
            op=cost.op,
            params=cost.params,
            macs=cost.macs,
            activation_bytes=cost.activation_bytes,
            output_shape=cost.shape,
        )
        for cost in node_costs(candidate.program)
        if cost.params or cost.macs
    )
    return Subject(
        name=candidate.name,
        format=candidate.artifact.suffix.removeprefix("."),
        artifact=candidate.shown_path,
        digest=candidate.digest,
        measurements=tuple(found[candidate.name]),
        layers=layers,
    )
