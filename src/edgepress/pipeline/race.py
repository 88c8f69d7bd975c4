"""Time programs against one original on a target: export, open, run in turns."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edgepress.errors import UserError
from edgepress.exporters.onnx import export_onnx
from edgepress.ir import Program
from edgepress.measure.latency import compare_latency
from edgepress.pipeline.bench import Bench
from edgepress.targets.runtimes import made_up_inputs, open_session

RUNS = 120


@contextmanager
def race(original: Program, bench: Bench) -> Iterator[Callable[[Program], float]]:
    """A stopwatch: latency of a program on the bench's first target divided by that of `original`, batch 1.

    The two run in turns and the median of the quotients of all rounds counts, so that what disturbs the machine
    disturbs both.

    Raises:
        UserError: times on the target mean nothing (it is emulated).
        MissingTool, ToolError: the target cannot be reached, or refuses the network.
    """
    number = itertools.count()
    with tempfile.TemporaryDirectory(prefix="edgepress-") as folder:
        export_onnx(original, first := Path(folder) / "original.onnx")

        def stopwatch(program: Program) -> float:
            bench.reporter.progress(f"timing a cut network on {bench.target.name}")
            export_onnx(program, path := Path(folder) / f"{next(number)}.onnx")
            return _quotient(first, path, bench)

        yield stopwatch


def _quotient(first: Path, second: Path, bench: Bench) -> float:
    sessions = {path.stem: open_session(path, bench.target) for path in (first, second)}
    try:
        inputs = made_up_inputs(sessions[first.stem].input_specs, batch=1, seed=bench.seed)
        latencies = compare_latency(sessions, inputs, runs=RUNS, seed=bench.seed, target=bench.target.name)
    finally:
        for session in sessions.values():
            session.close()
    before, after = (latencies[path.stem][0] for path in (first, second))
    if before.value is None:
        raise UserError(
            f"prune.reduce.latency: no time can be measured on {bench.target.name}",
            found=before.reason,
            expected="a target whose times mean something",
            fix="reduce macs instead, or put a target with a clock first",
        )
    return float(np.median(np.array(after.samples) / np.array(before.samples)))
