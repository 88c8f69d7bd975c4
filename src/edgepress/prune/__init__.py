"""Structured pruning and sparsity: score, allocate, plan, cut, refit."""

from edgepress.prune.options import PruneOptions
from edgepress.prune.plan import ChannelPlan, make_plan
from edgepress.prune.pruning import PruneResult, prune
from edgepress.prune.regularize import group_lasso
from edgepress.prune.sensitivity import SensitivityTable, sensitivity
from edgepress.prune.sparsity import SparsityOptions, SparsityResult, sparsify

__all__ = [
    "ChannelPlan",
    "PruneOptions",
    "PruneResult",
    "SensitivityTable",
    "SparsityOptions",
    "SparsityResult",
    "group_lasso",
    "make_plan",
    "prune",
    "sensitivity",
    "sparsify",
]
