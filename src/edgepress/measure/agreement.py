"""Whether files of one model answer alike, wherever they run: each against the ONNX reference or the first place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from edgepress.errors import ToolError, UserError
from edgepress.measure.divergence import TOLERANCE, first_divergence, trace_onnx
from edgepress.measure.parity import compare_outputs
from edgepress.measure.record import Parity
from edgepress.measure.reference import Reference
from edgepress.targets import Target
from edgepress.targets.runtimes import open_session

if TYPE_CHECKING:
    from edgepress.targets.runtimes import Array

Place = tuple[str, Path, Target]  # name of a file, the file, where it runs


def agreement(
    places: Iterable[Place], inputs: Mapping[str, Array], *, class_axis: int | None = 1
) -> tuple[tuple[Parity, ...], str]:
    """Parity of every place with one origin: the first ONNX file in the reference evaluator, else the first place.

    Args:
        places: files and where they run. inputs: one batch that fits all of them.

    Returns:
        One parity per place (but the origin), with the first layer that differs where both sides are ONNX; and why the
        reference is not the origin, "" if it is.

    Raises:
        UserError, MissingTool, ToolError: a file cannot be opened or run, or outputs have different shapes.
    """
    places = list(places)
    name, source, why = _reference(places, inputs)
    origin = Reference(source).run(inputs) if source else None
    found = []
    for called, path, target in places:
        here = f"{called} on {target.name}"
        with closing(open_session(path, target)) as session:
            outputs = session.run(inputs)
        if origin is None:
            name, origin = here, outputs
            continue
        parity = compare_outputs(name, here, origin, outputs, class_axis=class_axis)
        if source and path.suffix == ".onnx" and parity.max_abs > TOLERANCE * float(abs(origin[0]).max()):
            divergence = first_divergence(Reference(source).trace(inputs), trace_onnx(path, target, inputs))
            parity = parity.model_copy(update={"first_divergent_layer": divergence.layer if divergence else ""})
        found.append(parity)
    return tuple(found), why


def _reference(places: Iterable[Place], inputs: Mapping[str, Array]) -> tuple[str, Path | None, str]:
    """(name, file, why not) of the reference: the first ONNX file, if the evaluator can run it on these inputs."""
    file = next(((called, path) for called, path, _ in places if path.suffix == ".onnx"), None)
    if file is None:
        return "", None, "no ONNX file among them"
    try:
        Reference(file[1]).run(inputs)
    except (ToolError, UserError) as error:
        return "", None, error.found
    return f"{file[0]} by the ONNX reference", file[1], ""
