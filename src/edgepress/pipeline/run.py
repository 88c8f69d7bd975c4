"""Carry out a recipe: import, every step, export, measure. What a step made is stored before the next one starts."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from edgepress.analysis.costs import total_macs
from edgepress.errors import UserError
from edgepress.exporters.formats import FILES
from edgepress.ir import Program, load, save
from edgepress.ir.program import Refusal
from edgepress.measure import environment
from edgepress.measure.record import Evidence, StepRecord
from edgepress.pipeline.bench import Bench, Reporter
from edgepress.pipeline.best import is_better
from edgepress.pipeline.candidate import Candidate, shown_files
from edgepress.pipeline.evidence import assemble, data_notes, loss_notes, step_record, weights_note
from edgepress.pipeline.guard import can_time
from edgepress.pipeline.guarding import latency_on, slower_notes
from edgepress.pipeline.measuring import Measured, measure
from edgepress.pipeline.model import import_model, without_grids
from edgepress.pipeline.networks import import_networks
from edgepress.pipeline.own_file import own_file_notes
from edgepress.pipeline.preprocessing import placed, preprocess_note
from edgepress.pipeline.samples import open_samples
from edgepress.pipeline.scoring import score
from edgepress.pipeline.steps import RUNNERS, StepResult
from edgepress.pipeline.steps.export import formats_of
from edgepress.pipeline.steps.step import Workplace
from edgepress.pipeline.store import RunStore, StepSlot
from edgepress.recipe import Recipe, resolved_yaml
from edgepress.recipe.promises import check_integers, check_targets
from edgepress.recipe.steps import Export, StepConfig
from edgepress.targets import Target
from edgepress.targets import load as load_target
from edgepress.train import tasks
from edgepress.train.randomness import reproducible

PROGRAM, RECORD, EVIDENCE, RESOLVED = "program", "record.json", "evidence.json", "recipe.resolved.yaml"
LOGS = "logs"
MEASURING_NOTES = "notes.json"


@dataclass(frozen=True)
class RunOutcome:
    """What a run leaves: its folder and evidence; for a dry run only the plans."""

    root: Path
    evidence: Evidence | None
    plans: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """How far a run has come.

    Attributes:
        program: after the last step. digest: of what the last step stored. scores: its headline figures.
        records: of all steps so far. baseline, compressed: what to measure, once exported.
    """

    program: Program
    digest: str
    scores: Mapping[str, float]
    records: tuple[StepRecord, ...] = ()
    exports: Mapping[str, Candidate] = field(default_factory=dict)


def execute(recipe: Recipe, out: Path, *, dry_run: bool, device: str, reporter: Reporter) -> RunOutcome:
    """Run a recipe into the directory `out`, or print its plans.

    A run that was interrupted goes on where it stopped: finished steps are verified and reused.

    Raises:
        EdgepressError: anything the user can mend; what is finished stays finished.
    """
    torch.set_num_threads(recipe.threads)
    with reproducible():
        if dry_run:
            return RunOutcome(out, None, tuple(_draft(recipe, set_up(recipe, device, reporter))))
        with RunStore(out) as store:  # first of all: a busy or unwritable directory is known before any work
            return carry_out(recipe, set_up(recipe, device, reporter), store)


def carry_out(recipe: Recipe, bench: Bench, store: RunStore) -> RunOutcome:
    """Run a recipe in an opened store."""
    store.put(RESOLVED, resolved_yaml(recipe, store.home))
    return _Run(recipe, bench, store).execute()


def set_up(recipe: Recipe, device: str, reporter: Reporter) -> Bench:
    targets = tuple(_with_threads(recipe, load_target(name)) for name in recipe.targets)
    check_targets(recipe.budgets, targets)
    reporter.progress("importing the network")
    imported = import_model(recipe.model)
    pressed = any(item.kind != "export" for item in recipe.steps)
    original, data = placed(recipe, without_grids(imported) if pressed else imported)
    quantized = "quantize" in original.plans or any(item.kind == "quantize" for item in recipe.steps)
    check_integers(targets, quantized=quantized)
    wishes = [getattr(item.config, "samples", None) or 0 for item in recipe.steps]
    samples = open_samples(data, original, seed=recipe.seed, calibration=max([data.calibration.samples, *wishes]))
    return Bench(
        original=original,
        samples=samples,
        task=tasks.get(recipe.task, recipe.metric),
        targets=targets,
        seed=recipe.seed,
        device=device,
        reporter=reporter,
        networks=import_networks(recipe, imported),
    )


def _with_threads(recipe: Recipe, target: Target) -> Target:
    """The target with the recipe's number of threads, where it gives one."""
    plan = recipe.measure.latency
    return target if plan is None or plan.threads is None else target.model_copy(update={"threads": plan.threads})


def _draft(recipe: Recipe, bench: Bench) -> list[str]:
    """The plan of every step, each made for the program that the plans before it would leave. Writes nothing."""
    program, plans = bench.original, []
    for number, (kind, config) in enumerate(steps_of(recipe), start=1):
        result = RUNNERS[kind](config, program, bench, Workplace(None, None))
        plan = (result.plan or result.summary).rstrip()
        plans.append("\n".join([f"{number:02d} {kind}", plan, *_refused(result.refusals, plan)]))
        program = result.program
    return plans


def _refused(refusals: Sequence[Refusal], plan: str) -> list[str]:
    """A line per reason with all nodes it concerns; not the reasons that the plan itself gives."""
    nodes: dict[str, list[str]] = {}
    for one in refusals:
        nodes.setdefault(f"{one.found} (needed: {one.needed})", []).append(one.node)
    return [f"  refused {', '.join(names)}: {why}" for why, names in nodes.items() if why not in plan]


def steps_of(recipe: Recipe) -> list[tuple[str, StepConfig]]:
    """(kind, settings) of each step; a recipe without an export gets one, since only artifacts can be measured."""
    steps = [(item.kind, item.config) for item in recipe.steps]
    return steps if any(kind == "export" for kind, _ in steps) else [*steps, ("export", Export())]


class _Run:
    """One run with its store open."""

    def __init__(self, recipe: Recipe, bench: Bench, store: RunStore) -> None:
        self._recipe, self._bench, self._store = recipe, bench, store
        self._steps = steps_of(recipe)
        self._notes = [*weights_note(recipe), *data_notes(bench.samples), *preprocess_note(recipe)]
        self._position = 0

    def execute(self) -> RunOutcome:
        stage = self._import()
        stage = self._perform("baseline", _baseline_settings(self._steps), stage)
        for kind, config in self._steps:
            stage = self._perform(kind, config, stage)
        measured = self._measure(stage)
        losses = loss_notes(stage.records, self._bench.task)
        evidence = assemble(
            self._recipe, measured, stage.records, command=sys.argv, notes=[*self._notes, *self._store.notes, *losses]
        )
        self._store.put(EVIDENCE, evidence.model_dump_json(indent=1) + "\n")
        return RunOutcome(self._store.home, evidence)

    def _import(self) -> Stage:
        original = self._bench.original
        slot = self._store.step("import", {"program": original.digest()})
        self._announce("import")
        started = time.perf_counter()
        folder, reused = slot.load(), True
        if folder is None:
            reused = False
            with slot.write() as folder:
                save(original, folder / PROGRAM)
                scores = score(original, self._bench)
                (folder / RECORD).write_text(json.dumps(scores, sort_keys=True))
        scores = json.loads((slot.path / RECORD).read_text())
        summary = f"{original.parameter_count():,} parameters, {total_macs(original):,} MACs" + _shown(
            scores, self._bench
        )
        self._bench.reporter.result(summary, reused=reused, seconds=time.perf_counter() - started)
        return Stage(original, slot.digest(), scores)

    def _perform(self, kind: str, config: StepConfig, stage: Stage) -> Stage:
        """One step, from the store if it is there."""
        slot = self._store.step(kind, self._key(config, stage))
        self._announce(kind)
        started = time.perf_counter()
        reused = slot.load() is not None
        if not reused:
            self._make(kind, config, stage, slot)
            self._store.log("step", name=slot.path.name, seconds=round(time.perf_counter() - started, 3))
        record = StepRecord.model_validate_json((slot.path / RECORD).read_bytes())
        seconds = self._seconds(slot)
        self._bench.reporter.result(record.summary, reused=reused, seconds=None if reused else seconds)
        record = record.model_copy(update={"seconds": seconds, "reused": reused})
        return self._advance(kind, slot, stage, record)

    def _make(self, kind: str, config: StepConfig, stage: Stage, slot: StepSlot) -> None:
        scratch, logs = self._store.scratch(slot), self._store.home / LOGS / slot.path.name
        with slot.write() as folder:
            runner = RUNNERS["export" if kind == "baseline" else kind]
            result = runner(config, stage.program, self._bench, Workplace(folder, scratch, logs))
            after = stage.scores if result.artifact else score(result.program, self._bench)
            _check_changed(kind, result)
            if not result.artifact:
                save(result.program, folder / PROGRAM)
            if result.plan:
                (folder / "plan.txt").write_text(result.plan + "\n")
            record = step_record(kind, slot.number, result, dict(stage.scores), dict(after))
            (folder / RECORD).write_text(record.model_dump_json(indent=1) + "\n")
        self._store.clear_scratch(slot)

    def _advance(self, kind: str, slot: StepSlot, stage: Stage, record: StepRecord) -> Stage:
        program = load(slot.path / PROGRAM) if (slot.path / PROGRAM).exists() else stage.program
        scores = dict(record.after)
        best = self._store.best_facts()
        if best is None or is_better(scores, best, self._bench.task):
            self._store.set_best(slot.path, scores)
        exports = dict(stage.exports)
        if kind in ("baseline", "export"):
            name = "baseline" if kind == "baseline" else "compressed"
            exports[name] = self._candidate(name, program, slot)
        records = stage.records if kind == "baseline" else (*stage.records, record)
        # The baseline export is a side branch: the next step's input is still what the import stored.
        digest = stage.digest if kind == "baseline" else slot.digest()
        return replace(stage, program=program, digest=digest, scores=scores, records=records, exports=exports)

    def _candidate(self, name: str, program: Program, slot: StepSlot) -> Candidate:
        formats = formats_of(_export_settings(self._steps), self._bench)
        files = {kind: slot.path / FILES[kind] for kind in formats}
        if (slot.path / FILES["onnx"]).exists():  # written on the way to the others
            files.setdefault("onnx", slot.path / FILES["onnx"])
        return Candidate(name, program, files, self._store.home, slot.digest())

    def _measure(self, stage: Stage) -> Measured:
        pair = [stage.exports[name] for name in ("baseline", "compressed")]
        settings = self._recipe.measure
        key = {
            "artifacts": [c.digest for c in pair],
            "settings": settings.model_dump(mode="json"),
            "targets": [t.model_dump(mode="json") for t in self._bench.targets],
            "data": _digest(self._bench.samples.evaluate),
            "machine": environment.describe().machine_class,
        }
        slot = self._store.step("measure", key)
        self._announce("measure")
        started = time.perf_counter()
        reused = slot.load() is not None
        if not reused:
            with slot.write() as folder:
                measured = measure(self._bench, settings, *pair)
                (folder / RECORD).write_text(measured.model_dump_json(indent=1) + "\n")
                notes = [*self._slower(measured, *pair), *self._own_file(pair[0])]
                (folder / MEASURING_NOTES).write_text(json.dumps(notes))
        names = ", ".join(target.name for target in self._bench.targets)
        self._bench.reporter.result(f"on {names}", reused=reused, seconds=time.perf_counter() - started)
        self._notes += json.loads((slot.path / MEASURING_NOTES).read_text())
        return _named(Measured.model_validate_json((slot.path / RECORD).read_bytes()), self._bench.targets, pair)

    def _slower(self, measured: Measured, baseline: Candidate, compressed: Candidate) -> list[str]:
        """Why integers are not faster than float, where they are not."""
        target = self._bench.target.name
        pair = [latency_on(subject.measurements, target) for subject in (measured.baseline, measured.compressed)]
        if None in pair:
            return []
        programs = (baseline.program, compressed.program)
        artifacts = (baseline.on(self._bench.target), compressed.on(self._bench.target))
        return list(slower_notes(*programs, artifacts, (pair[0], pair[1]), self._bench))

    def _own_file(self, baseline: Candidate) -> list[str]:
        """What the ONNX file that the network came from does better than its export."""
        own, target = self._recipe.model.onnx, self._bench.target
        if own is None or not can_time(target) or (shown := baseline.on(target)).suffix != ".onnx":
            return []
        return list(own_file_notes(Path(own), shown, target, self._bench.original))

    def _key(self, config: StepConfig, stage: Stage) -> dict[str, object]:
        """Everything that decides a step's result."""
        samples = self._bench.samples
        formats = formats_of(config, self._bench) if isinstance(config, Export) else ()
        return {
            "input": stage.digest,
            "config": config.model_dump(mode="json"),
            "formats": formats,
            # Machine code is for the machine it was made on.
            "machine": environment.describe().machine_class if {"aot", "tensorrt"} & set(formats) else "",
            "networks": [self._bench.network(source).digest() for source in config.networks()],
            "seed": self._recipe.seed,
            "threads": self._recipe.threads,
            "task": [self._recipe.task, self._bench.task.metric],
            "device": self._bench.device,
            "target": self._bench.target.model_dump(mode="json"),
            "data": [_digest(samples.train), _digest(samples.calibration), _digest(samples.evaluate)],
        }

    def _announce(self, kind: str) -> None:
        self._position += 1
        self._bench.reporter.step(self._position, len(self._steps) + len(("import", "baseline", "measure")), kind)

    def _seconds(self, slot: StepSlot) -> float | None:
        """How long the step took when it was made."""
        times = [e["seconds"] for e in self._store.events() if e["event"] == "step" and e["name"] == slot.path.name]
        return times[-1] if times else None


def _export_settings(steps: Sequence[tuple[str, StepConfig]]) -> Export:
    return next(config for _, config in steps if isinstance(config, Export))


def _baseline_settings(steps: Sequence[tuple[str, StepConfig]]) -> Export:
    """The original is exported as the result is, in its own precision."""
    return _export_settings(steps).model_copy(update={"precision": "float32"})


def _named(measured: Measured, targets: Sequence[Target], pair: Sequence[Candidate]) -> Measured:
    """With the paths of this run: a branch may have measured the same artifacts first."""
    subjects = {c.name: getattr(measured, c.name).model_copy(update=shown_files(c, targets)) for c in pair}
    return measured.model_copy(update=subjects)


def _check_changed(kind: str, result: StepResult) -> None:
    """A step that changed nothing fails: a compressed model that is the original helps nobody."""
    if result.changed or result.declined:
        return
    reasons = "; ".join(str(refusal) for refusal in result.refusals[:3])
    raise UserError(
        f"the step {kind} changed nothing",
        found=reasons or "no place in the network where it applies",
        expected="at least one change",
        fix=f"change the settings of {kind}, or remove the step",
    )


def _shown(scores: Mapping[str, float], bench: Bench) -> str:
    metric = bench.task.metric
    return f", {metric} {scores[metric]:.4f}" if metric in scores else ""


def _digest(dataset: object) -> str:
    return getattr(dataset, "digest", "")
