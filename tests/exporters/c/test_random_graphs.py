"""Random graphs: the generated C equals the integer reference bit for bit, whatever the shapes, scales and overlaps."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgepress.errors import UserError
from edgepress.exporters.c import CArtifact, Options
from edgepress.exporters.c import graph as g
from edgepress.exporters.c.arithmetic import rescale_of
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


@pytest.mark.parametrize("seed", range(12))
def test_four_bit_weights_compute_the_same_in_half_the_flash(
    seed: int, host_runner: Build, source_file: Path, tmp_path: Path
) -> None:
    draw = np.random.default_rng(seed)
    height, width, channels, out = (int(n) for n in draw.integers(1, 8, 4))
    weight = draw.integers(-8, 8, (out, 1, 1, channels)).astype(np.int8)
    last = draw.integers(-8, 8, (5, height * width * out)).astype(np.int8)
    tensors = [
        g.Tensor("x", (1, height, width, channels), "int8", (0.1,), 3),
        g.Tensor("w", weight.shape, data=weight),
        g.Tensor("b", (out,), "int32", data=draw.integers(-99, 99, out).astype(np.int32)),
        g.Tensor("a", (1, height, width, out), "int8", (0.1,), -7),
        g.Tensor("f", (1, height * width * out), "int8", (0.1,), -7),
        g.Tensor("v", last.shape, data=last),
        g.Tensor("d", (5,), "int32", data=draw.integers(-99, 99, 5).astype(np.int32)),
        g.Tensor("y", (1, 5), "int8", (0.1,), 0),
    ]
    ops = (
        g.Conv(name="conv", inputs=("x", "w", "b"), output="a", rescale=rescale_of(0.2)),
        g.Reshape(name="flat", inputs=("a",), output="f"),
        g.Dense(name="dense", inputs=("f", "v", "d"), output="y", rescale=rescale_of(0.02)),
    )
    graph = g.Graph("small", {t.name: t for t in tensors}, ops, ("x",), ("y",))
    options = Options(target="host", golden=1, four_bit=True)
    artifact = export_graph(graph, source_file, tmp_path / "c", options=options)
    rows = inputs_for(graph, 4, seed)
    expected = np.stack([reference(graph, row, options.rounding) for row in rows])
    np.testing.assert_array_equal(host_runner(artifact)(rows), expected)
    pairs = (out + 1) // 2
    sizes = {layer["name"]: layer["constant_bytes"] for layer in artifact.manifest["layers"]}
    assert sizes["conv"] == pairs * channels + 2 * pairs * 9  # bias, multiplier, shift of each channel
    assert sizes["dense"] == 3 * last.shape[1] + 6 * 9
