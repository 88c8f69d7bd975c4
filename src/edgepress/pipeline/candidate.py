"""One of the two models of a run, and what is known of it without running it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepress.analysis.costs import NodeCost, node_costs
from edgepress.analysis.memory_plan import memory_plan
from edgepress.exporters.formats import format_of
from edgepress.exporters.shipping import shipping_form
from edgepress.ir import Program
from edgepress.measure.modelled import MAC_PJ, modelled_energy
from edgepress.measure.record import LayerCost, Measurement, Subject
from edgepress.measure.size import measure_kinds, measure_size
from edgepress.recipe.schema import ModelledEnergy
from edgepress.targets import Target
from edgepress.targets.companions import companions

BITS = {"float32": 32, "float16": 16, "int8": 8}
assert BITS.keys() == MAC_PJ.keys()


@dataclass(frozen=True)
class Candidate:
    """One model to measure.

    Attributes:
        program: it as a graph. files: format -> what was made of it; the first one ships.
        root: folder that files are shown relative to. digest: of all files together.
    """

    name: str
    program: Program
    files: Mapping[str, Path]
    root: Path
    digest: str

    @property
    def artifact(self) -> Path:
        """The file that ships."""
        return next(iter(self.files.values()))

    def on(self, target: Target) -> Path:
        """The file that runs on a target."""
        return self.files[format_of(target)]

    def shown(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.root)).as_posix()


def counted(candidate: Candidate, targets: Sequence[Target], modelled: ModelledEnergy | None) -> list[Measurement]:
    """What is counted rather than timed: parameters, multiply-accumulates, bytes; energy by arithmetic if asked for."""
    costs = node_costs(candidate.program)
    plan = memory_plan(shipping_form(candidate.program))
    counts = {
        "params": (candidate.program.parameter_count(), "count"),
        "macs": (sum(c.macs for c in costs), "count"),
        "largest_activation_bytes": (max((c.activation_bytes for c in costs), default=0), "bytes"),
        "weight_bytes": (plan.weights, "bytes"),
        "activation_plan_bytes": (plan.activations, "bytes"),
    }
    figures = [
        Measurement(name=name, value=value, unit=unit, source="counted", method="counted on the graph, batch 1")
        for name, (value, unit) in counts.items()
    ]
    estimate = () if modelled is None else (_modelled(candidate, costs, modelled),)
    return [*_sizes(candidate, targets), *figures, *estimate]


def _sizes(candidate: Candidate, targets: Sequence[Target]) -> Iterator[Measurement]:
    """Bytes of what ships, by kind where it is ONNX; of each target's own file where they run different ones."""
    shipped = candidate.artifact
    yield from measure_size(shipped, *companions(shipped))
    if shipped.suffix == ".onnx":
        yield from measure_kinds(shipped)
    places = {target.name: candidate.on(target) for target in targets if target.kind != "mcu"}
    for name, path in places.items() if set(places.values()) - {shipped} else ():
        yield from (m.model_copy(update={"target": name}) for m in measure_size(path, *companions(path)))


def _modelled(candidate: Candidate, costs: Sequence[NodeCost], settings: ModelledEnergy) -> Measurement:
    """Every weight and activation moved once, at the width of the number format."""
    kind = "float32" if candidate.name == "baseline" else settings.number_format
    values = candidate.program.parameter_count() + sum(c.activation_bytes for c in costs) // 4
    estimate = modelled_energy(
        sum(c.macs for c in costs), values * BITS[kind] // 8, number_format=kind, memory=settings.memory
    )
    # A name of its own: it never stands where a measured value is looked for.
    return estimate.model_copy(update={"name": "energy_modelled_mj"})


def subject(candidate: Candidate, found: Sequence[Measurement], targets: Sequence[Target]) -> Subject:
    """The candidate with everything that was found out about it."""
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
        digest=candidate.digest,
        measurements=tuple(found),
        layers=layers,
    ).model_copy(update=shown_files(candidate, targets))


def shown_files(candidate: Candidate, targets: Sequence[Target]) -> dict[str, Any]:
    """`artifact` and `artifacts` of its subject: what ships, and what each target runs where that is another file."""
    places = {t.name: candidate.shown(candidate.on(t)) for t in targets if t.kind != "mcu"}
    shipped = candidate.shown(candidate.artifact)
    return {"artifact": shipped, "artifacts": places if set(places.values()) - {shipped} else {}}
