"""Headline figures of a program, taken around every step."""

from edgepress.analysis.costs import parameter_bytes, total_macs
from edgepress.ir import Program
from edgepress.pipeline.bench import Bench
from edgepress.train.evaluate import evaluate


def score(program: Program, bench: Bench) -> dict[str, float]:
    """`macs`, `params`, `weight_bytes`, and the task's metric on the evaluation data if there is some."""
    figures: dict[str, float] = {
        "macs": total_macs(program),
        "params": program.parameter_count(),
        "weight_bytes": parameter_bytes(program),
    }
    data = bench.samples.evaluate
    if data is not None:
        figures[bench.task.metric] = evaluate(program, data, bench.task)
    return figures
