"""Random graphs on emulated cores: every optimised kernel equals the integer reference."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgepress.errors import UserError
from edgepress.exporters.c import Options
from edgepress.exporters.c import graph as g
from edgepress.exporters.c.export import export_graph, reference
from edgepress.targets.emulate import deploy, why_not

pytestmark = pytest.mark.emulator
CASES = [("cortex-m4", "double"), ("cortex-m4", "single"), ("cortex-m0", "double"), ("cortex-m3", "double")]
CASES += [("cortex-m3", "single"), ("cortex-m55", "double"), ("cortex-m55", "single"), ("rv32imc", "double")]


@pytest.mark.parametrize(("core", "rounding"), CASES)
@pytest.mark.parametrize("seed", [11, 23, 42])
def test_random_graphs(
    seed: int, core: str, rounding: str, random_graph: Callable[[int], g.Graph], source_file: Path, tmp_path: Path
) -> None:
    if reason := why_not(core):
        pytest.skip(reason)
    graph = random_graph(seed)
    options = Options(target=core, rounding=rounding, golden=1)  # type: ignore[arg-type]
    try:
        export_graph(graph, source_file, tmp_path / "c", options=options)
    except UserError as error:
        pytest.skip(str(error).splitlines()[0])
    size = graph.tensor(graph.inputs[0]).size
    rows = np.random.default_rng(seed).integers(-128, 128, (6, size))
    rows = np.concatenate([rows, np.full((1, size), -128), np.full((1, size), 127)]).astype(np.int8)
    expected = np.stack([reference(graph, row, options.rounding) for row in rows])
    np.testing.assert_array_equal(deploy(tmp_path / "c", rows, counted=0).outputs, expected)
