"""Data as values: sources, calibration subsets, preprocessing, and whether data fit a network."""

from edgepress.data.calibration import Calibration, calibration_subset, leaked_rows
from edgepress.data.check import check_finite, check_fits
from edgepress.data.dataset import Dataset, per_class, split
from edgepress.data.preprocess import Preprocess
from edgepress.data.sources import SOURCES, open_source

__all__ = [
    "SOURCES",
    "Calibration",
    "Dataset",
    "Preprocess",
    "calibration_subset",
    "check_finite",
    "check_fits",
    "leaked_rows",
    "open_source",
    "per_class",
    "split",
]
