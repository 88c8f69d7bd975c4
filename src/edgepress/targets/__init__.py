"""Where artifacts run: target files, and the runtimes that execute an artifact on them."""

from edgepress.targets.target import Limits, Remote, Target, load, ready_made

__all__ = ["Limits", "Remote", "Target", "load", "ready_made"]
