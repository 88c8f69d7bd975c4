"""Terms from plain data, as a recipe holds them."""

from collections.abc import Mapping, Sequence
from typing import Any

from edgepress.distill.taps import Tap, automatic_taps, matching_taps
from edgepress.distill.term import FEATURE_LOSSES, Term
from edgepress.errors import UserError
from edgepress.ir.program import Program

OWN_KEYS = ("loss", "weight", "schedule", "output", "taps")
AUTOMATIC = "auto"


def read_terms(specs: Sequence[Mapping[str, Any]], student: Program, teacher: Program) -> tuple[Term, ...]:
    """One term per mapping with `loss` and, as they apply, `weight`, `schedule`, `output`, `taps` and settings.

    `taps` is "auto" (the default of losses on features), {"student": pattern, "teacher": pattern} with regular
    expressions, or a list of [student node, teacher node].

    Raises:
        UserError: a loss is missing or unknown, a setting it does not have, taps that cannot be read.
    """
    return tuple(_term(spec, student, teacher) for spec in specs)


def _term(spec: Mapping[str, Any], student: Program, teacher: Program) -> Term:
    if "loss" not in spec:
        raise UserError("a term without a loss", found=", ".join(spec) or "nothing", expected="loss: kd, ...",
                        fix="name the loss")  # fmt: skip
    loss = str(spec["loss"])
    wanted = spec.get("taps", AUTOMATIC if loss in FEATURE_LOSSES else ())
    return Term(
        loss=loss,
        weight=float(spec.get("weight", 1.0)),
        settings={name: float(value) for name, value in spec.items() if name not in OWN_KEYS},
        output=int(spec.get("output", 0)),
        taps=_taps(wanted, student, teacher),
        schedule=str(spec.get("schedule", "constant")),
    )


def _taps(wanted: Any, student: Program, teacher: Program) -> tuple[Tap, ...]:
    if wanted == AUTOMATIC:
        return automatic_taps(student, teacher)
    if isinstance(wanted, Mapping) and set(wanted) == {"student", "teacher"}:
        return matching_taps(student, teacher, str(wanted["student"]), str(wanted["teacher"]))
    pairs = isinstance(wanted, Sequence) and all(isinstance(p, Sequence) and len(p) == 2 for p in wanted)
    if not pairs or isinstance(wanted, str):
        raise UserError("cannot read `taps`", found=str(wanted),
                        expected="auto, {student: pattern, teacher: pattern}, or a list of [student, teacher] nodes",
                        fix="correct `taps`")  # fmt: skip
    return tuple(Tap(str(ours), str(theirs)) for ours, theirs in wanted)
