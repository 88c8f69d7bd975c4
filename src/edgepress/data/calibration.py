"""Calibration data: drawn by seed from training data, never from what the model is judged on."""

from dataclasses import dataclass

import torch

from edgepress.data.dataset import Dataset, order
from edgepress.errors import UserError


@dataclass(frozen=True)
class Calibration:
    """A calibration subset and what was left out of it.

    Attributes:
        dataset: the drawn samples. excluded: training samples that also occur in the evaluation set.
    """

    dataset: Dataset
    excluded: int


def leaked_rows(train: Dataset, evaluation: Dataset) -> list[int]:
    """Indices of training samples whose inputs equal, byte by byte, those of an evaluation sample."""
    known = set(evaluation.row_hashes())
    return [i for i, row in enumerate(train.row_hashes()) if row in known]


def calibration_subset(train: Dataset, evaluation: Dataset | None, samples: int, seed: int) -> Calibration:
    """Draw `samples` training samples, leaving out those that occur in the evaluation set.

    Raises:
        UserError: too few samples are left (fewer than asked for).
    """
    leaked = set() if evaluation is None else set(leaked_rows(train, evaluation))
    rows = [i for i in order(len(train), seed).tolist() if i not in leaked][:samples]
    if len(rows) < samples:
        raise UserError(
            f"cannot draw {samples} calibration samples from {train.source or 'the training data'}",
            found=f"{len(train)} samples, {len(leaked)} of them also in the evaluation set",
            expected=f"at least {samples} samples that the model is not judged on",
            fix="name other training data under `data.train`, or lower `calibration.samples`",
        )
    return Calibration(train.subset(torch.tensor(rows)), len(leaked))
