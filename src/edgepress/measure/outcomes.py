"""What compression changed in the answers: right and wrong, per class, churn, calibration, and what was forgotten."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edgepress.errors import UserError
from edgepress.measure.record import ClassOutcome, ForgottenSample, Measurement, PairedOutcomes, Record
from edgepress.measure.stats.pairing import pack
from edgepress.measure.stats.proportions import wilson

Scores = npt.NDArray[np.floating]
Labels = npt.NDArray[np.integer]
Predictions = npt.NDArray[np.intp]

CALIBRATION_BINS = 15
# Pictures in a report are for recognising, not for looking: small images are enlarged, large ones thinned out.
PICTURE_SIDE = 64


class Outcomes(Record):
    """The paired answers of two models on the same samples.

    Attributes:
        paired: all samples. classes: the same per class and per slice. forgotten: samples only the first had right, in
            order of how sure the first was. first, second: `accuracy` and `calibration_error` of each model.
    """

    paired: PairedOutcomes
    classes: tuple[ClassOutcome, ...]
    forgotten: tuple[ForgottenSample, ...]
    first: tuple[Measurement, ...]
    second: tuple[Measurement, ...]


def compare_outcomes(
    first_scores: Scores,
    second_scores: Scores,
    labels: Labels,
    *,
    class_names: Sequence[str] | None = None,
    images: npt.NDArray[np.generic] | None = None,
    slices: Mapping[str, Sequence[str]] | None = None,
    max_forgotten: int = 24,
    target: str = "",
    data: str = "",
) -> Outcomes:
    """Compare two classifiers sample by sample.

    Args:
        first_scores, second_scores: logits or probabilities, (n, classes).
        labels: (n,) class indices. class_names: one per class; the index where absent.
        images: (n, height, width), (n, channels, height, width) or (n, height, width, channels), any range, for the
            pictures of forgotten samples; `None` if the inputs are not images.
        slices: ways to slice the data -> one label per sample; outcomes per label are named "speaker=ann".
        max_forgotten: how many forgotten samples are listed (all are counted).
        data: sha256 of the samples, by which a later comparison knows them again.

    Raises:
        UserError: shapes do not fit, or a label names no class.
    """
    _check(first_scores, second_scores, labels)
    names = [str(c) for c in range(first_scores.shape[1])] if class_names is None else list(class_names)
    first, second = first_scores.argmax(1), second_scores.argmax(1)
    return Outcomes(
        paired=pair(first, second, labels),
        classes=tuple(
            ClassOutcome(label=names[c], outcomes=pair(first[labels == c], second[labels == c], labels[labels == c]))
            for c in np.unique(labels)
        )
        + tuple(_slices(first, second, labels, slices or {})),
        forgotten=tuple(_forgotten(first_scores, second, labels, names, images, max_forgotten)),
        first=_quality(first_scores, labels, target, data),
        second=_quality(second_scores, labels, target, data),
    )


def _slices(
    first: Predictions, second: Predictions, labels: Labels, slices: Mapping[str, Sequence[str]]
) -> Iterator[ClassOutcome]:
    for name, values in slices.items():
        column = np.asarray(values)
        for value in np.unique(column):
            rows = column == value
            outcomes = pair(first[rows], second[rows], labels[rows])
            yield ClassOutcome(label=f"{name}={value}", outcomes=outcomes, kind="slice")


def pair(first: Predictions, second: Predictions, labels: Labels) -> PairedOutcomes:
    """Right/wrong of two models' predictions (n,) against labels (n,)."""
    right, also = first == labels, second == labels
    return PairedOutcomes(
        both=int((right & also).sum()),
        only_first=int((right & ~also).sum()),
        only_second=int((~right & also).sum()),
        neither=int((~right & ~also).sum()),
        flips=int((first != second).sum()),
    )


def calibration_error(scores: Scores, labels: Labels, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error: |accuracy - confidence| averaged over bins of confidence, weighted by their size.

    Guo et al., On Calibration of Modern Neural Networks (2017), eq. 3, equal-width bins. Scores (n, classes) may be
    logits or probabilities.
    """
    probabilities = _probabilities(scores)
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gap = np.bincount(which, weights=right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(labels))


def _probabilities(scores: Scores) -> npt.NDArray[np.float64]:
    wide = scores.astype(np.float64)
    if wide.min() >= 0 and np.allclose(wide.sum(1), 1, atol=1e-3):
        return wide
    exponents = np.exp(wide - wide.max(1, keepdims=True))
    return exponents / exponents.sum(1, keepdims=True)


def _check(first: Scores, second: Scores, labels: Labels) -> None:
    if first.ndim != 2 or first.shape != second.shape or labels.shape != first.shape[:1] or not len(labels):
        raise UserError(
            "scores and labels do not fit together",
            found=f"scores {first.shape} and {second.shape}, labels {labels.shape}",
            expected="scores (n, classes) twice and labels (n,), n at least 1",
        )
    if labels.min() < 0 or labels.max() >= first.shape[1]:
        raise UserError(
            "a label names no class",
            found=f"labels from {labels.min()} to {labels.max()}",
            expected=f"0 to {first.shape[1] - 1}, one per score",
        )


def _quality(scores: Scores, labels: Labels, target: str, data: str) -> tuple[Measurement, ...]:
    n = len(labels)
    right = scores.argmax(1) == labels
    accuracy = float(right.mean())
    _, low, high = wilson(int(right.sum()), n, 0.025)  # 95 % in all
    method = f"{n} samples"
    return (
        Measurement(
            name="accuracy",
            value=accuracy,
            unit="ratio",
            n=n,
            low=low,
            high=high,
            method=method,
            better="higher",
            target=target,
            data=data,
            right=pack(right.tolist()) if data else "",
        ),
        Measurement(
            name="calibration_error",
            value=calibration_error(scores, labels),
            unit="ratio",
            n=n,
            method=method,
            target=target,
        ),
    )


def _forgotten(
    first_scores: Scores,
    second: Predictions,
    labels: Labels,
    names: Sequence[str],
    images: npt.NDArray[np.generic] | None,
    at_most: int,
) -> Iterator[ForgottenSample]:
    """Samples that only the first model had right, the ones it was surest of first."""
    lost = np.flatnonzero((first_scores.argmax(1) == labels) & (second != labels))
    sureness = _probabilities(first_scores)[lost].max(1)
    for row in lost[np.argsort(-sureness, kind="stable")][:at_most]:
        picture = "" if images is None else picture_png(images[row])
        yield ForgottenSample(index=int(row), label=names[labels[row]], predicted=names[second[row]], image_png=picture)


def picture_png(image: npt.NDArray[np.generic]) -> str:
    """Base64 PNG of one image (h, w), (c, h, w) or (h, w, c), c of 1 or 3, stretched from its own range to 0..255."""
    from PIL import Image

    pixels = _to_pixels(image)
    side = max(pixels.shape[:2])
    scale = PICTURE_SIDE / side
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    resample = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX
    stream = io.BytesIO()
    Image.fromarray(pixels).resize(size, resample).save(stream, "PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode()


def _to_pixels(image: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    wide = image.astype(np.float64)
    if wide.ndim == 3 and wide.shape[0] in (1, 3) and wide.shape[2] not in (1, 3):
        wide = wide.transpose(1, 2, 0)
    if wide.ndim == 3 and wide.shape[2] == 1:
        wide = wide[:, :, 0]
    if wide.ndim not in (2, 3) or (wide.ndim == 3 and wide.shape[2] != 3):
        raise UserError(
            "not an image", found=f"shape {image.shape}", expected="(h, w), (1 or 3, h, w) or (h, w, 1 or 3)"
        )
    low, high = wide.min(), wide.max()
    return np.round((wide - low) * (255.0 / (high - low) if high > low else 0.0)).astype(np.uint8)
