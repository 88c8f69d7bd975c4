"""The data a run works with: training, evaluation and calibration sets, opened and checked before anything else."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from edgepress.data.calibration import calibration_subset
from edgepress.data.check import check_finite, check_fits
from edgepress.data.dataset import Dataset
from edgepress.data.preprocess import from_options
from edgepress.data.sources import open_source
from edgepress.errors import UserError
from edgepress.importers import factory
from edgepress.ir import Program
from edgepress.recipe.data import Data, DataSource, FactorySource


@dataclass(frozen=True)
class Samples:
    """What the recipe's `data:` names, preprocessed; `None` where it names nothing.

    Attributes:
        calibration: drawn by seed from `train`, free of samples that are also in `evaluate`.
        excluded: training samples that were left out of it for that reason.
    """

    train: Dataset | None = None
    evaluate: Dataset | None = None
    calibration: Dataset | None = None
    excluded: int = 0

    def training(self) -> Dataset:
        """The training set.

        Raises:
            UserError: the recipe names none.
        """
        if self.train is None:
            raise UserError("no training data", found="no data.train", expected="a data source", fix="add data.train")
        return self.train

    def calibrating(self, samples: int | None = None) -> Dataset:
        """The first `samples` of the calibration set (all without a number).

        Raises:
            UserError: the recipe names no training data to draw it from.
        """
        self.training()
        assert self.calibration is not None
        return self.calibration.subset(torch.arange(min(samples or len(self.calibration), len(self.calibration))))


def open_samples(data: Data, program: Program, *, seed: int, calibration: int) -> Samples:
    """Open every source, apply the preprocessing, check it against the network.

    Args:
        calibration: how many samples the hungriest step wants.

    Raises:
        UserError: a source cannot be read, is empty, or does not fit the network.
    """
    train, evaluate = (_open(source, data, program) for source in (data.train, data.evaluate))
    if train is None:
        return Samples(evaluate=evaluate)
    # A small training set is calibrated with as a whole: that is a fact for the report, not an error.
    drawn = calibration_subset(train, evaluate, min(calibration, len(train)), seed)
    return Samples(train, evaluate, drawn.dataset, drawn.excluded)


def _open(source: DataSource | None, data: Data, program: Program) -> Dataset | None:
    if source is None:
        return None
    maker = _maker(source) if isinstance(source, FactorySource) else None
    raw = open_source(source.kind, _options(source), Path(), maker=maker)
    dataset = from_options(data.preprocess.model_dump()).apply(raw)
    check_finite(dataset)
    check_fits(dataset, program)
    return dataset


def _maker(source: FactorySource) -> Callable[..., object]:
    """The user's function with its own arguments, which may be called as ours are (`seed`, `limit`, `part`)."""
    function = factory.find(source.function, Path())
    return functools.update_wrapper(functools.partial(function, **source.kwargs), function)


def _options(source: DataSource) -> dict[str, object]:
    options = source.options()
    if isinstance(source, FactorySource):
        return {k: v for k, v in options.items() if k not in ("function", "kwargs")}
    return {k: str(v) if isinstance(v, Path) else v for k, v in options.items()}
