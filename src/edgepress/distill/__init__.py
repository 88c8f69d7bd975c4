"""Distillation: losses, where they look, and objectives made of them."""

from edgepress.distill.objective import Objective, soft_targets
from edgepress.distill.outputs import check_comparable, output_shapes
from edgepress.distill.reading import read_terms
from edgepress.distill.taps import Tap, automatic_taps, matching_taps
from edgepress.distill.term import FEATURE_LOSSES, OUTPUT_LOSSES, Term

__all__ = [
    "FEATURE_LOSSES",
    "OUTPUT_LOSSES",
    "Objective",
    "Tap",
    "Term",
    "automatic_taps",
    "check_comparable",
    "matching_taps",
    "output_shapes",
    "read_terms",
    "soft_targets",
]
