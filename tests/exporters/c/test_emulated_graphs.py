"""Random graphs on emulated cores: every optimised kernel equals the integer reference."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgepress.errors import UserError
from edgepress.exporters.c import Options
from edgepress.exporters.c import graph as g
from edgepress.exporters.c.arithmetic import rescale_of
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


@pytest.mark.parametrize("rounding", ["double", "single"])
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m0", "rv32imc"])
@pytest.mark.parametrize("seed", range(4))
def test_four_bit_convolutions(seed: int, core: str, rounding: str, source_file: Path, tmp_path: Path) -> None:
    if reason := why_not(core):
        pytest.skip(reason)
    draw = np.random.default_rng(seed)
    height, width, channels, out = (int(n) for n in draw.integers(2, 9, 4))
    kernel, stride = int(draw.choice([1, 3])), int(draw.integers(1, 3))
    pads = (kernel // 2,) * 4
    sizes = [(n + 2 * pads[0] - kernel) // stride + 1 for n in (height, width)]
    weight = draw.integers(-8, 8, (out, kernel, kernel, channels)).astype(np.int8)
    tensors = [
        g.Tensor("x", (1, height, width, channels), "int8", (0.1,), int(draw.integers(-128, 128))),
        g.Tensor("w", weight.shape, data=weight),
        g.Tensor("b", (out,), "int32", data=draw.integers(-999, 999, out).astype(np.int32)),
        g.Tensor("y", (1, *sizes, out), "int8", (0.1,), -7),
    ]
    factor = rescale_of(*draw.uniform(0.001, 0.05, out))
    conv = g.Conv(name="conv", inputs=("x", "w", "b"), output="y", rescale=factor, stride=(stride, stride), pads=pads)
    graph = g.Graph("small", {t.name: t for t in tensors}, (conv,), ("x",), ("y",))
    options = Options(target=core, rounding=rounding, golden=1, four_bit=True)  # type: ignore[arg-type]
    artifact = export_graph(graph, source_file, tmp_path / "c", options=options)
    assert "4-bit" in artifact.manifest["layers"][0]["kernel"]
    rows = draw.integers(-128, 128, (5, graph.tensor("x").size)).astype(np.int8)
    expected = np.stack([reference(graph, row, options.rounding) for row in rows])
    np.testing.assert_array_equal(deploy(tmp_path / "c", rows, counted=0).outputs, expected)
