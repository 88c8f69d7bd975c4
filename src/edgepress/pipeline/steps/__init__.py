"""What each kind of step does. A new kind is one file here and one line in `RUNNERS`."""

from edgepress.pipeline.steps import export, prune, quantize, sparsify, train
from edgepress.pipeline.steps.step import Runner, StepResult

RUNNERS: dict[str, Runner] = {
    "prune": prune.run,
    "sparsify": sparsify.run,
    "train": train.run,
    "quantize": quantize.run,
    "export": export.run,
}

__all__ = ["RUNNERS", "Runner", "StepResult"]
