"""`edgepress compare --layers`: where a quantized model loses, and what would mend it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from edgepress.pipeline.diagnosis import Findings


def compare_layers(
    subjects: list[Path], *, recipe: Path | None, samples: int, target: str | None, with_repairs: bool, as_json: bool
) -> None:
    """Diagnose a run, or a float model file and its quantized one, and print what was found."""
    from edgepress.errors import UserError
    from edgepress.pipeline.diagnosis import diagnose_files, diagnose_run
    from edgepress.targets.capability import LOCAL
    from edgepress_cli.console import ConsoleReporter

    if len(subjects) > 2:
        raise UserError("--layers compares two models", found=f"{len(subjects)} subjects",
                        expected="a run, or FLOAT and QUANTIZED", fix="name two")  # fmt: skip
    reporter = ConsoleReporter()
    try:
        if len(subjects) == 1:
            found = diagnose_run(subjects[0], samples, target=target, with_repairs=with_repairs, reporter=reporter)
        else:
            first, second = subjects
            found = diagnose_files(
                first,
                second,
                samples,
                recipe=recipe,
                target=target or LOCAL,
                with_repairs=with_repairs,
                reporter=reporter,
            )
    finally:
        reporter.close()
    typer.echo(json.dumps(_plain(found), indent=1) if as_json else _text(found), nl=as_json)


def _plain(found: Findings) -> dict[str, Any]:
    repairs = [
        {"what": r.what, "setting": r.setting, "gain_db": r.gain_db, "price": r.price} for r in found.repairs or ()
    ]
    return {
        "data": found.data,
        "exact": found.exact,
        "output_db": found.diagnosis.output_db,
        "first_bad": found.diagnosis.first_bad,
        "nodes": [asdict(node) for node in found.diagnosis.nodes],
        "repairs": None if found.repairs is None else repairs,
        "saturating": None if found.saturating is None else [asdict(s) for s in found.saturating],
    }


LEGEND = (
    "sqnr: signal above the noise at this value, in dB (6 dB are one bit). weight, grid: the same when only the\n"
    "weight, or only this value, is rounded. clipped: values outside the grid. used: share of the grid they reach.\n"
)


def _text(found: Findings) -> str:
    parts = [f"on {found.data}\n", found.diagnosis.to_text(), LEGEND]
    parts += [f"model.onnx in onnxruntime: {found.exact}\n"] if found.exact else []
    if found.saturating is not None:
        parts += ["no sum can leave 16 bits\n"] if not found.saturating else []
        parts += [f"{s.tensor}: {s.pairs:.2%} of the sums can saturate, up to {s.worst:,}\n" for s in found.saturating]
    if found.repairs is not None:
        parts.append(_repairs(found))
    return "\n".join(parts)


def _repairs(found: Findings) -> str:
    if not found.repairs:
        return "no repair gains a decibel or more\n"
    lines = ["repairs, cheapest first (gain measured at the output):"]
    lines += [f"  {repair.gain_db:+6.1f} dB  {repair.what} ({repair.setting})" for repair in found.repairs]
    return "\n".join(lines) + "\n"
