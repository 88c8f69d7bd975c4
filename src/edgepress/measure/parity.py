"""How far two hops of the same model are apart on the same samples."""

from collections.abc import Sequence

import numpy as np

from edgepress.errors import UserError
from edgepress.measure.record import Parity
from edgepress.targets.runtimes.inputs import Array


def compare_outputs(
    first: str,
    second: str,
    first_outputs: Sequence[Array],
    second_outputs: Sequence[Array],
    *,
    class_axis: int | None = 1,
    first_divergent_layer: str = "",
) -> Parity:
    """Error between the outputs of two hops, over all outputs and samples.

    Args:
        first, second: names of the hops ("program", "onnxruntime").
        first_outputs, second_outputs: outputs in the same order, samples along axis 0.
        class_axis: axis of the first output whose largest entry is the prediction; `None` if nothing is predicted.
        first_divergent_layer: name of the layer where a comparison of intermediates found the first difference.

    Raises:
        UserError: counts or shapes differ, or a value is not finite on one side only.
    """
    _check_alike(first, second, first_outputs, second_outputs)
    errors = [_error(a, b) for a, b in zip(first_outputs, second_outputs, strict=True)]
    sizes = sum(error.size for error in errors)
    return Parity(
        first=first,
        second=second,
        n=len(first_outputs[0]),
        max_abs=max((float(error.max()) for error in errors if error.size), default=0.0),
        mean_abs=sum(float(error.sum()) for error in errors) / max(sizes, 1),
        flip_rate=_flip_rate(first_outputs[0], second_outputs[0], class_axis),
        first_divergent_layer=first_divergent_layer,
    )


def _check_alike(first: str, second: str, ours: Sequence[Array], theirs: Sequence[Array]) -> None:
    shapes = [[array.shape for array in outputs] for outputs in (ours, theirs)]
    if shapes[0] != shapes[1] or not ours:
        raise UserError(
            f"outputs of {first} and {second} differ in shape", found=str(shapes[1]), expected=str(shapes[0])
        )


def _error(ours: Array, theirs: Array) -> np.ndarray:
    """Absolute error in float64. Infinities and NaNs must stand in the same places, and count as equal there."""
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0.0, np.abs(a - b))
    if not np.isfinite(error).all():
        raise UserError(
            "outputs cannot be compared",
            found=f"{int((~np.isfinite(error)).sum())} values that are not finite on one side only",
            expected="finite numbers, or the same NaN and infinity on both sides",
        )
    return error


def _flip_rate(ours: Array, theirs: Array, class_axis: int | None) -> float | None:
    if class_axis is None or ours.ndim <= class_axis or ours.size == 0:
        return None
    return float(np.mean(ours.argmax(class_axis) != theirs.argmax(class_axis)))
