"""Distillation: losses, and objectives made of them."""

from edgepress.distill.objective import FEATURE_LOSSES, OUTPUT_LOSSES, Objective, Term, soft_targets

__all__ = ["FEATURE_LOSSES", "OUTPUT_LOSSES", "Objective", "Term", "soft_targets"]
