"""A model that came as an ONNX file has a runtime of its own already: gains are said against that as well.

The baseline of a run is the imported network, exported as the result is, so that both differ by the recipe alone. That
export may be larger than the file it came from (float16 weights) or slower (branches that both are computed).
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from edgepress.errors import EdgepressError
from edgepress.ir import Program
from edgepress.measure.latency import compare_latency
from edgepress.measure.size import measure_size
from edgepress.pipeline.first_samples import first_feed
from edgepress.pipeline.hops import fitting
from edgepress.targets import Target
from edgepress.targets.companions import companions
from edgepress.targets.runtimes import open_session

BETTER = 0.95  # of the baseline: less is noise
RUNS = 50


def own_file_notes(own: Path, baseline: Path, target: Target, original: Program) -> Iterator[str]:
    """What the user's file does better than the baseline on a target; nothing if it does not, or does not run there.

    Args:
        original: the imported network: its example inputs are what both are timed on.
    """
    sizes = [int(measure_size(path, *companions(path))[0].value or 0) for path in (own, baseline)]
    if sizes[0] < BETTER * sizes[1]:
        values = f"{sizes[0]:,} bytes, exported {sizes[1]:,}"
        yield _note(own, "is smaller than its float export", values, sizes[1] / sizes[0])
    times = _times(own, baseline, target, original)
    if times and times[0] < BETTER * times[1]:
        values = f"{times[0]:.4g} ms, exported {times[1]:.4g}"
        yield _note(own, f"is faster than its float export on {target.name}", values, times[1] / times[0])


def _times(own: Path, baseline: Path, target: Target, original: Program) -> tuple[float, float] | None:
    """Median ms of both, in turns; `None` where the file does not run on the target."""
    feed = first_feed(original, original.example_inputs)
    try:
        with ExitStack() as stack:
            files = enumerate((own, baseline))
            sessions = {str(i): stack.enter_context(closing(open_session(path, target))) for i, path in files}
            feeds = {name: fitting(feed, session) for name, session in sessions.items()}
            found = compare_latency(sessions, feeds, runs=RUNS)
    except EdgepressError:
        return None
    first, second = (float(np.median(found[name][0].samples)) for name in ("0", "1"))
    return first, second


def _note(own: Path, what: str, values: str, ratio: float) -> str:
    return f"{own.name} {what}: {values}; against the file itself every gain is {ratio:.2f}x less"
