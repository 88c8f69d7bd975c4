"""The committed baseline: a small text file that says what the last accepted model cost and knew."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from edgepress.errors import UserError
from edgepress.gate.budget import first_problem
from edgepress.gate.judge import Reference
from edgepress.measure.record import Evidence, Measurement, Record, Subject

HEADER = "# Written by `edgepress baseline update`; commit it. Relative budgets are held against these values.\n"


class Fingerprint(Record):
    """Where the baseline was measured. Timings are compared only within one `machine_class`."""

    machine_class: str
    cpu: str = ""
    os: str = ""
    tools: Mapping[str, str] = Field(default_factory=dict)


class Baseline(Record):
    """What was accepted, when, and why.

    Attributes:
        subject, digest: the model. updated: UTC time. reason: why this became the baseline.
        metrics: its measurements, without raw samples.
    """

    edgepress_baseline: Literal[1] = 1
    subject: str
    digest: str = ""
    updated: str
    reason: str
    environment: Fingerprint
    metrics: tuple[Measurement, ...]

    @model_validator(mode="after")
    def _each_metric_once(self) -> "Baseline":
        keys = [(metric.name, metric.target) for metric in self.metrics]
        twice = {name for name, _ in keys if keys.count((name, _)) > 1}
        if twice:
            raise ValueError(f"listed twice: {', '.join(sorted(twice))} (a merge of two updates? update it again)")
        return self

    def reference(self) -> Reference:
        """What relative limits are held against."""
        subject = Subject(name=self.subject, digest=self.digest, measurements=self.metrics)
        label = f"the committed baseline ({self.updated[:10]}: {self.reason})"
        return Reference(subject, label, self.environment.machine_class, paired=False)


def baseline_of(evidence: Evidence, *, reason: str, updated: str) -> Baseline:
    """The baseline that accepts this evidence's compressed model.

    Raises:
        UserError: no reason was given, or nothing was measured.
    """
    if not reason.strip():
        raise UserError(
            "a baseline needs a reason",
            found="none",
            expected="why the new values are right",
            fix='edgepress baseline update RUN --reason "..."',
        )
    known = [m.model_copy(update={"samples": ()}) for m in evidence.compressed.measurements if m.value is not None]
    if not known:
        raise UserError(
            f"{evidence.name}: nothing was measured that could become a baseline",
            found="no known value",
            expected="a finished run, or a model file",
            fix="edgepress run RECIPE",
        )
    place = evidence.environment
    fingerprint = Fingerprint(machine_class=place.machine_class, cpu=place.cpu, os=place.os, tools=place.tools)
    return Baseline(
        subject=evidence.compressed.name,
        digest=evidence.compressed.digest,
        updated=updated,
        reason=reason.strip(),
        environment=fingerprint,
        metrics=tuple(known),
    )


def write_baseline(baseline: Baseline, path: Path) -> None:
    """Write it as YAML with one metric per line, so that a review shows which of them moved."""
    fields = baseline.model_dump(mode="json", exclude={"metrics"})
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    defaults = {"samples", *Record.model_fields}
    metrics = [m.model_dump(mode="json", exclude_defaults=True, exclude=defaults) for m in baseline.metrics]
    lines += ["metrics:", *(f"  - {json.dumps(metric, ensure_ascii=False)}" for metric in metrics)]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    partial.replace(path)


def read_baseline(path: Path) -> Baseline:
    """Read a committed baseline.

    Raises:
        UserError: it is missing, is no YAML (conflict markers of a merge, say), or misses or misnames fields.
    """
    import yaml

    fix = "edgepress baseline update RUN --reason '...' writes a new one"
    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Baseline.model_validate(data)
    except OSError as error:
        found = error.strerror or "an unreadable file"
        raise UserError(f"baseline {path} cannot be read", found=found, expected="a file", fix=fix) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        found = " ".join(str(error).split())[:120]
        raise UserError(f"baseline {path} is corrupt", found=found, expected="YAML", fix=fix) from error
    except ValidationError as error:
        text, found = first_problem(error)
        what, expected = f"baseline {path} is corrupt: {text}", "what `edgepress baseline update` writes"
        raise UserError(what, found=found, expected=expected, fix=fix) from error
