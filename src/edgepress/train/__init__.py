"""One seeded training loop for recovery, distillation, sparsity learning and QAT."""

from edgepress.train.evaluate import evaluate, evaluate_module
from edgepress.train.job import Objective, Taps
from edgepress.train.loop import TrainResult, fit
from edgepress.train.options import TrainOptions, options_from
from edgepress.train.progress import EpochLog, Progress
from edgepress.train.tasks import TASKS, Task

__all__ = [
    "TASKS",
    "EpochLog",
    "Objective",
    "Progress",
    "Task",
    "Taps",
    "TrainOptions",
    "TrainResult",
    "evaluate",
    "evaluate_module",
    "fit",
    "options_from",
]
