"""Where numbers were taken, and whether two machines are alike enough to compare timings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from edgepress.measure.record import Environment
from edgepress.targets.worker.facts import facts

# CPU features that decide which kernels a runtime picks.
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm", "sve", "bf16", "avx512_bf16")


def describe(
    warnings: Sequence[str] = (), machine: Mapping[str, Any] | None = None, power_mode: str = ""
) -> Environment:
    """The machine the numbers come from.

    Args:
        warnings: what was seen while measuring, put into the record.
        machine: what a far side says of itself (`worker.facts`); this machine if `None`.
        power_mode: the mode that the target asks for; another one is a warning.
    """
    known = facts() if machine is None else machine
    cpu, features = _cpu(known)
    return Environment(
        machine_class=machine_class(known),
        os=known["platform"],
        cpu=" ".join((cpu, *features)),
        cores=known["cores"],
        memory_bytes=known["memory_bytes"],
        python=known["python"],
        tools=known["tools"],
        accelerators=tuple(known["accelerators"]),
        warnings=(*warnings, *_standing_warnings(known["governors"]), *_wrong_mode(known, power_mode)),
    )


def machine_class(machine: Mapping[str, Any]) -> str:
    """A name that is equal for machines whose timings may be compared: CPU, features, cores, GiB of memory, power mode.

    Software versions are not part of it: a slower release of a runtime is a finding, not another machine.
    """
    cpu, features = _cpu(machine)
    gibibytes = round(machine["memory_bytes"] / 2**30)
    parts = (machine["system"], machine["machine"], cpu, *features, str(machine["cores"]), str(gibibytes))
    mode = machine.get("power_mode", "")
    told = "|".join((*parts, mode) if mode else parts)
    return f"{machine['machine']}-{machine['cores']}c-{hashlib.sha256(told.encode()).hexdigest()[:10]}"


def _cpu(machine: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Model name and those features that runtimes look at."""
    lines = [line.partition(":") for line in machine["cpuinfo"].splitlines()]
    fields = {key.strip().lower(): value.strip() for key, _, value in reversed(lines) if key.strip()}
    flags = set(fields.get("flags", fields.get("features", "")).split())
    part = " ".join(fields[key] for key in ("cpu implementer", "cpu part") if key in fields)
    model = " ".join(fields[key] for key in ("cpu family", "model", "stepping") if key in fields)
    name = fields.get("model name") or part or machine["processor"] or machine["machine"]
    return f"{name} ({model})" if model and "cpu family" in fields else name, tuple(f for f in FEATURES if f in flags)


def _wrong_mode(machine: Mapping[str, Any], wanted: str) -> tuple[str, ...]:
    """Two modes of one board are two machines."""
    found = machine.get("power_mode", "") or "unknown"
    if wanted in ("", found):
        return ()
    return (f"power mode is {found}, the target asks for {wanted} (sudo nvpmodel -m NUMBER)",)


def _standing_warnings(governors: Sequence[str]) -> tuple[str, ...]:
    """What about a machine makes timings uncertain, whatever else runs."""
    slack = [governor for governor in governors if governor != "performance"]
    return (f"CPU frequency governor is {', '.join(slack)}: timings depend on load before",) if slack else ()
