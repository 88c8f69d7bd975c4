"""Structured pruning and sparsity: score, allocate, plan, cut, refit."""

from edgepress.prune.options import PruneOptions
from edgepress.prune.plan import ChannelPlan, make_plan
from edgepress.prune.pruning import PruneResult, prune

__all__ = ["ChannelPlan", "PruneOptions", "PruneResult", "make_plan", "prune"]
