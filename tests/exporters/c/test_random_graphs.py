"""Random graphs: the generated C equals the integer reference bit for bit, whatever the shapes, scales and overlaps."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgepress.errors import UserError
from edgepress.exporters.c import CArtifact, Options
from edgepress.exporters.c import graph as g
from edgepress.exporters.c.export import export_graph, reference

Build = Callable[..., Callable[[np.ndarray], np.ndarray]]


def inputs_for(graph: g.Graph, count: int, seed: int) -> np.ndarray:
    """Random rows, then one of each extreme."""
    size = graph.tensor(graph.inputs[0]).size
    rows = np.random.default_rng(seed).integers(-128, 128, (count, size))
    return np.concatenate([rows, np.full((1, size), -128), np.full((1, size), 127)]).astype(np.int8)


def export_or_skip(graph: g.Graph, source: Path, out: Path, options: Options) -> CArtifact:
    """A drawn bias may overflow int32 sums: that refusal has its own test."""
    try:
        return export_graph(graph, source, out, options=options)
    except UserError as error:
        assert "32 bits" in str(error)
        pytest.skip("refused: sums leave 32 bits")


@pytest.mark.parametrize("rounding", ["double", "single"])
@pytest.mark.parametrize("seed", range(30))
def test_portable_c_equals_the_reference(
    seed: int,
    rounding: str,
    random_graph: Callable[[int], g.Graph],
    host_runner: Build,
    source_file: Path,
    tmp_path: Path,
) -> None:
    graph = random_graph(seed)
    options = Options(target="host", rounding=rounding, golden=1)  # type: ignore[arg-type]
    artifact = export_or_skip(graph, source_file, tmp_path / "c", options)
    rows = inputs_for(graph, 4, seed)
    expected = np.stack([reference(graph, row, options.rounding) for row in rows])
    np.testing.assert_array_equal(host_runner(artifact)(rows), expected)
