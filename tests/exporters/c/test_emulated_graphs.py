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
CASES += [
    ("cortex-m3", "single"),
    ("cortex-m55", "double"),
    ("cortex-m55", "single"),
    ("rv32imc", "double"),
    ("rv32imcv", "double"),
    ("rv32imcv", "single"),
]


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
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m0", "rv32imc", "rv32imcv"])
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
        g.Tensor("y", (1, *sizes, out), "int8", (0.1,), int(draw.choice([-7, -128]))),
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


@pytest.mark.parametrize("rounding", ["double", "single"])
@pytest.mark.parametrize("seed", range(8))
def test_depthwise_in_planes(seed: int, rounding: str, source_file: Path, tmp_path: Path) -> None:
    """Sizes that need several strips, odd rows and columns, channels that are no multiple of four, in place or not."""
    draw = np.random.default_rng(seed)
    height, width = (int(n) for n in draw.integers(1, 60, 2))
    channels, stride = int(draw.integers(4, 11)), int(draw.integers(1, 3))
    pads = tuple(int(n) for n in draw.integers(0 if min(height, width) >= 3 else 1, 2, 4))
    sizes = [(n + pads[a] + pads[a + 2] - 3) // stride + 1 for a, n in enumerate((height, width))]
    tensors = [
        g.Tensor("x", (1, height, width, channels), "int8", (0.1,), int(draw.integers(-128, 128))),
        g.Tensor("w", (channels, 3, 3, 1), data=draw.integers(-128, 128, (channels, 3, 3, 1)).astype(np.int8)),
        g.Tensor("b", (channels,), "int32", data=draw.integers(-9999, 9999, channels).astype(np.int32)),
        g.Tensor("y", (1, *sizes, channels), "int8", (0.1,), int(draw.choice([5, -128]))),
    ]
    factor = rescale_of(*draw.uniform(0.001, 0.02, channels))
    options = {"stride": (stride, stride), "pads": pads, "groups": channels}
    conv = g.Conv(name="conv", inputs=("x", "w", "b"), output="y", rescale=factor, **options)
    graph = g.Graph("planes", {t.name: t for t in tensors}, (conv,), ("x",), ("y",))
    check_on_m4(graph, rounding, draw, source_file, tmp_path)


@pytest.mark.parametrize("rounding", ["double", "single"])
@pytest.mark.parametrize("seed", range(8))
def test_convolutions_of_uneven_shapes(seed: int, rounding: str, source_file: Path, tmp_path: Path) -> None:
    """Any number of channels, windows of any bytes, biases on both sides of what the quick end of a tile can take."""
    draw = np.random.default_rng(seed)
    height, width, channels = (int(n) for n in draw.integers(3, 10, 3))
    out, stride, dilation = int(draw.integers(1, 12)), int(draw.integers(1, 3)), int(draw.integers(1, 3))
    kernel = (int(draw.integers(1, 3)), int(draw.integers(1, 3)))
    reach = [(k - 1) * dilation + 1 for k in kernel]
    sizes = [(n + 2 - r) // stride + 1 for n, r in zip((height, width), reach, strict=True)]
    large = 2 ** int(draw.integers(10, 27))
    tensors = [
        g.Tensor("x", (1, height, width, channels), "int8", (0.1,), int(draw.integers(-128, 128))),
        g.Tensor(
            "w", (out, *kernel, channels), data=draw.integers(-127, 128, (out, *kernel, channels)).astype(np.int8)
        ),
        g.Tensor("b", (out,), "int32", data=draw.integers(-large, large, out).astype(np.int32)),
        g.Tensor("y", (1, *sizes, out), "int8", (0.1,), int(draw.choice([-20, -128]))),
    ]
    factor = rescale_of(*draw.uniform(20 / large, 100 / large, out))
    options = {"stride": (stride, stride), "pads": (1, 1, 1, 1), "dilation": (dilation, dilation)}
    conv = g.Conv(name="conv", inputs=("x", "w", "b"), output="y", rescale=factor, **options)
    graph = g.Graph("uneven", {t.name: t for t in tensors}, (conv,), ("x",), ("y",))
    check_on_m4(graph, rounding, draw, source_file, tmp_path)


@pytest.mark.parametrize("rounding", ["double", "single"])
@pytest.mark.parametrize("seed", range(3))
def test_four_bit_matrices(seed: int, rounding: str, source_file: Path, tmp_path: Path) -> None:
    draw = np.random.default_rng(seed)
    inputs, out = 4 * int(draw.integers(1, 40)), int(draw.integers(1, 14))
    tensors = [
        g.Tensor("x", (1, inputs), "int8", (0.1,), int(draw.integers(-128, 128))),
        g.Tensor("w", (out, inputs), data=draw.integers(-8, 8, (out, inputs)).astype(np.int8)),
        g.Tensor("b", (out,), "int32", data=draw.integers(-999, 999, out).astype(np.int32)),
        g.Tensor("y", (1, out), "int8", (0.1,), 9),
    ]
    factor = rescale_of(*draw.uniform(0.001, 0.05, out))
    dense = g.Dense(name="dense", inputs=("x", "w", "b"), output="y", rescale=factor)
    graph = g.Graph("matrix", {t.name: t for t in tensors}, (dense,), ("x",), ("y",))
    check_on_m4(graph, rounding, draw, source_file, tmp_path, four_bit=True)


def check_on_m4(
    graph: g.Graph, rounding: str, draw: np.random.Generator, source: Path, folder: Path, *, four_bit: bool = False
) -> None:
    """The emulated Cortex-M4 gives the reference's bytes, and takes the fast kernel to do so."""
    if reason := why_not("cortex-m4"):
        pytest.skip(reason)
    options = Options(target="cortex-m4", rounding=rounding, golden=1, four_bit=four_bit)  # type: ignore[arg-type]
    artifact = export_graph(graph, source, folder / "c", options=options)
    assert "smlad" in artifact.manifest["layers"][0]["kernel"]
    rows = draw.integers(-128, 128, (3, graph.tensor("x").size)).astype(np.int8)
    expected = np.stack([reference(graph, row, options.rounding) for row in rows])
    np.testing.assert_array_equal(deploy(folder / "c", rows, counted=0).outputs, expected)
