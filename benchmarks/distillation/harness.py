"""What the distillation benchmarks share: the arms, one run, the record, the table."""

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from edgepress.data import Dataset
from edgepress.distill import Objective, Term, automatic_taps
from edgepress.ir import Program
from edgepress.measure.environment import describe
from edgepress.train import TrainOptions, evaluate, fit
from edgepress.train.tasks import get

TASK = get("classification")
BASE = "fine-tuning"
KD = [Term("task", 0.1), Term("kd", 0.9, {"temperature": 4.0})]


@dataclass(frozen=True)
class Experiment:
    """Teacher and student, the data, and how the student is trained.

    The validation set, where there is one, chooses among arms. The test set chooses nothing.
    """

    name: str
    teacher: Program
    student: Program
    train: Dataset
    test: Dataset
    options: TrainOptions
    validation: Dataset | None = None


def arms(student: Program, teacher: Program) -> dict[str, list[Term]]:
    """Name -> the terms of its objective. Weights are those of the papers or of their authors' code."""
    taps = automatic_taps(student, teacher)
    attention, hint = Term("attention", 5.0, taps=taps), Term("hint", 1.0, {"relative": 0.0}, taps=taps)
    return {
        BASE: [Term("task")],
        "kd": KD,
        "kd alone": [Term("kd", 1.0, {"temperature": 4.0})],
        "dkd": [Term("task"), Term("dkd", 1.0, {"alpha": 1.0, "beta": 8.0, "temperature": 4.0}, schedule="up")],
        "dkd, beta 1": [Term("task"), Term("dkd", 1.0, {"alpha": 1.0, "beta": 1.0, "temperature": 4.0})],
        "attention": [Term("task"), attention],
        "similarity": [Term("task"), Term("similarity", 3000.0, taps=taps)],
        "relational": [Term("task"), Term("relational", 25.0, taps=taps[-1:])],
        "hint": [Term("task"), hint],
        "kd + attention": [*KD, attention],
        "kd + hint": [*KD, hint],
        "kd + relative": [*KD, Term("hint", 1.0, {"relative": 1.0}, taps=taps)],
        "kd + 5 relative": [*KD, Term("hint", 5.0, {"relative": 1.0}, taps=taps)],
        "kd alone + hint": [Term("kd", 1.0, {"temperature": 4.0}), hint],
        "dkd + hint": [Term("task"), Term("dkd", 1.0, {"alpha": 1.0, "beta": 8.0, "temperature": 4.0}), hint],
    }


def arguments(description: str | None, experiments: list[str]) -> argparse.ArgumentParser:
    """The options that all of these benchmarks take."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default=experiments[0], choices=experiments)
    parser.add_argument("--arms", nargs="*", help="a choice of arms; all unless given")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--out", type=Path)
    return parser


def compare(experiment: Experiment, wanted: list[str] | None, seeds: int, minutes: float, out: Path) -> None:
    """Every arm with every seed, as far as the time allows; each result is written at once."""
    record = _record(out, experiment)
    deadline, longest = time.perf_counter() + 60 * minutes, 0.0
    for seed in range(seeds):
        for name, terms in arms(experiment.student, experiment.teacher).items():
            begin = time.perf_counter()
            done = str(seed) in record["runs"].get(name, {})
            if done or (wanted and name not in wanted) or begin + longest > deadline:
                continue
            found = run(experiment, terms, seed)
            longest = max(longest, time.perf_counter() - begin)
            record["runs"].setdefault(name, {})[str(seed)] = found
            record["table"] = table(record).splitlines()
            out.write_text(json.dumps(record, indent=1) + "\n")
            print(f"seed {seed} {name}: {found} ({time.perf_counter() - begin:.0f} s)", flush=True)
    print(table(record))


def run(experiment: Experiment, terms: list[Term], seed: int) -> dict[str, float]:
    """Accuracy after the last epoch on each set that judges."""
    student, teacher = experiment.student, experiment.teacher
    objective = Objective(terms, TASK.loss, student=student, teacher=teacher, seed=seed)
    options = TrainOptions(**{**vars(experiment.options), "seed": seed})
    taught = any(term.loss != "task" for term in terms)
    result = fit(student, experiment.train, objective=objective, options=options, task=TASK,
                 teacher=teacher if taught else None)  # fmt: skip
    return {name: round(evaluate(result.program, data, TASK), 4) for name, data in judges(experiment).items()}


def judges(experiment: Experiment) -> dict[str, Dataset]:
    """Name -> data of the sets that a result is measured on."""
    chooses = {} if experiment.validation is None else {"validation": experiment.validation}
    return {**chooses, "test": experiment.test}


def table(record: dict) -> str:
    """Per judging set: mean accuracy per arm and the paired difference to plain fine-tuning and plain KD, in points,
    each with its standard error."""
    return "\n".join(line for judge in record["accuracy_before"] for line in _table_of(record, judge))


def _table_of(record: dict, judge: str) -> list[str]:
    before = ", ".join(f"{who} {100 * value:.2f}" for who, value in record["accuracy_before"][judge].items())
    lines = [f"{judge}; before: {before}", f"{'arm':<16} seeds  accuracy      over {BASE:<14} over kd"]
    for name, runs in record["runs"].items():
        accuracy = spread([100 * found[judge] for found in runs.values()])
        over = [spread(_gains(runs, record["runs"].get(other, {}), judge)) for other in (BASE, "kd")]
        lines.append(f"{name:<16} {len(runs):>5}  {accuracy:<13} {over[0]:<19} {over[1]}")
    return lines


def _gains(runs: dict, others: dict, judge: str) -> list[float]:
    return [100 * (runs[seed][judge] - others[seed][judge]) for seed in runs if seed in others]


def spread(values: list[float]) -> str:
    """Mean and its standard error, as text."""
    if len(values) < 2:
        return f"{values[0]:.2f}" if values else "-"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values) / len(values) ** 0.5:.2f}"


def _record(out: Path, experiment: Experiment) -> dict:
    """What earlier invocations found, if nothing that matters has changed since."""
    facts = {
        "experiment": experiment.name,
        "options": json.loads(experiment.options.to_json()),
        "train": {"samples": len(experiment.train), "sha256": experiment.train.digest},
        **{name: {"samples": len(data), "sha256": data.digest} for name, data in judges(experiment).items()},
        "programs": {"teacher": experiment.teacher.digest(), "student": experiment.student.digest()},
    }
    if out.is_file():
        record = json.loads(out.read_text())
        if all(record.get(key) == value for key, value in facts.items()):
            return record
    programs = {"teacher": experiment.teacher, "student": experiment.student}
    return {
        **facts,
        "parameters": {who: program.parameter_count() for who, program in programs.items()},
        "accuracy_before": {
            name: {who: round(evaluate(p, data, TASK), 4) for who, p in programs.items()}
            for name, data in judges(experiment).items()
        },
        "environment": describe().model_dump(),
        "runs": {},
    }
