"""Dead channels: what is taken out changes no byte, and what decides a byte stays."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepress.exporters.c import CArtifact, Options
from edgepress.exporters.c import graph as g
from edgepress.exporters.c.arithmetic import Rounding, rescale_of
from edgepress.exporters.c.dead_channels import channels, without_dead_channels
from edgepress.exporters.c.export import export_graph, reference

Runner = Callable[[np.ndarray], np.ndarray]

CHANNELS = 16
SETTLED = 2**28  # a bias that saturates whatever comes in


def separable(seed: int, *, pads: int = 1, settled: int = 9, unread: int = 3, zero_point: int = -128) -> g.Graph:
    """conv 1x1 -> depthwise 3x3 -> conv 1x1 on 5x5; some channels of the first saturate, some go unread."""
    draw = np.random.default_rng(seed)
    size = 5 + 2 * pads - 2
    first, last = draw.integers(-127, 128, (CHANNELS, 1, 1, 4)), draw.integers(-127, 128, (8, 1, 1, CHANNELS))
    last[..., draw.permutation(CHANNELS)[:unread]] = 0
    bias = draw.integers(-9000, 9000, CHANNELS)
    bias[draw.permutation(CHANNELS)[:settled]] = draw.choice([-SETTLED, SETTLED], settled)
    tensors = [
        g.Tensor("x", (1, 5, 5, 4), "int8", (0.1,), 3),
        g.Tensor("w1", first.shape, data=first.astype(np.int8)),
        g.Tensor("b1", (CHANNELS,), "int32", data=bias.astype(np.int32)),
        g.Tensor("a", (1, 5, 5, CHANNELS), "int8", (0.1,), zero_point),
        g.Tensor("w2", (CHANNELS, 3, 3, 1), data=draw.integers(-127, 128, (CHANNELS, 3, 3, 1)).astype(np.int8)),
        g.Tensor("b2", (CHANNELS,), "int32", data=draw.integers(-9000, 9000, CHANNELS).astype(np.int32)),
        g.Tensor("d", (1, size, size, CHANNELS), "int8", (0.1,), zero_point),
        g.Tensor("w3", last.shape, data=last.astype(np.int8)),
        g.Tensor("b3", (8,), "int32", data=draw.integers(-9000, 9000, 8).astype(np.int32)),
        g.Tensor("y", (1, size, size, 8), "int8", (0.1,), -5),
    ]
    factors = [rescale_of(*draw.uniform(0.001, 0.01, n)) for n in (CHANNELS, CHANNELS, 8)]
    low = (zero_point, 127)
    ops = (
        g.Conv(name="first", inputs=("x", "w1", "b1"), output="a", rescale=factors[0], clamp=low),
        g.Conv(name="plane", inputs=("a", "w2", "b2"), output="d", rescale=factors[1], clamp=low, groups=CHANNELS,
               pads=(pads,) * 4),
        g.Conv(name="last", inputs=("d", "w3", "b3"), output="y", rescale=factors[2]),
    )  # fmt: skip
    return g.Graph("separable", {t.name: t for t in tensors}, ops, ("x",), ("y",))


def assert_same(graph: g.Graph, smaller: g.Graph, rounding: Rounding) -> None:
    size = graph.tensor(graph.inputs[0]).size
    rows = np.random.default_rng(0).integers(-128, 128, (6, size))
    for row in (*rows, np.full(size, -128), np.full(size, 127)):
        np.testing.assert_array_equal(
            reference(graph, row.astype(np.int8), rounding), reference(smaller, row.astype(np.int8), rounding)
        )


@pytest.mark.parametrize("rounding", ["double", "single"])
@pytest.mark.parametrize("pads", [0, 1])
@pytest.mark.parametrize("seed", range(6))
def test_separable_layers_lose_their_dead_channels(seed: int, pads: int, rounding: Rounding) -> None:
    graph = separable(seed, pads=pads)
    smaller = without_dead_channels(graph, rounding)
    assert channels(smaller) < channels(graph)
    assert smaller.tensor("a").shape[-1] == smaller.tensor("d").shape[-1]
    assert smaller.tensor("a").shape[-1] % 4 == 0
    assert_same(graph, smaller, rounding)


def test_a_constant_that_padding_does_not_read_stays() -> None:
    """Channels that saturate at 127 are no constant behind a padded depthwise layer."""
    padded = without_dead_channels(separable(3, pads=1, settled=CHANNELS, unread=0), "double")
    plain = without_dead_channels(separable(3, pads=0, settled=CHANNELS, unread=0), "double")
    assert plain.tensor("a").shape[-1] == 4  # all of them are: four are left for the kernels
    assert padded.tensor("a").shape[-1] > 4


@pytest.mark.parametrize("seed", range(3))
def test_the_c_without_them_is_smaller_and_equal(
    seed: int, host_runner: Callable[[CArtifact], Runner], source_file: Path, tmp_path: Path
) -> None:
    graph = separable(seed)
    rows = np.random.default_rng(seed).integers(-128, 128, (8, graph.tensor("x").size)).astype(np.int8)
    expected = np.stack([reference(graph, row) for row in rows])
    sizes = []
    for keep in (False, True):
        options = Options(target="host", golden=1, keep_dead=keep)
        artifact = export_graph(graph, source_file, tmp_path / str(keep), options=options)
        np.testing.assert_array_equal(host_runner(artifact)(rows), expected)
        assert bool(artifact.manifest["dead_channels"]) is not keep
        sizes.append(artifact.constant_bytes)
    assert sizes[0] < sizes[1]


def test_nothing_dead_is_nothing_done() -> None:
    graph = separable(1, settled=0, unread=0)
    assert without_dead_channels(graph, "double") is graph


def test_inputs_and_outputs_keep_their_channels() -> None:
    graph = separable(2, settled=CHANNELS, unread=CHANNELS)
    smaller = without_dead_channels(graph, "double")
    assert smaller.tensor("x").shape == graph.tensor("x").shape
    assert smaller.tensor("y").shape == graph.tensor("y").shape
    assert_same(graph, smaller, "double")


@pytest.mark.parametrize("rounding", ["double", "single"])
def test_random_graphs(rounding: Rounding, random_graph: Callable[[int], g.Graph]) -> None:
    changed = 0
    for seed in range(100):
        graph = pruned(random_graph(seed), seed)
        smaller = without_dead_channels(graph, rounding)
        changed += smaller is not graph
        assert_same(graph, smaller, rounding)
    assert changed  # most random graphs are too short to have channels inside


def pruned(graph: g.Graph, seed: int) -> g.Graph:
    """Half of the weights' input channels are zero, a third of the biases saturate."""
    draw, tensors = np.random.default_rng(seed), dict(graph.tensors)
    for op in graph.ops:
        if isinstance(op, g.Conv | g.Dense):
            weight, bias = graph.constant(op.inputs[1]).copy(), graph.constant(op.inputs[2]).copy()
            weight[..., draw.random(weight.shape[-1]) < 0.5] = 0
            bias[draw.random(len(bias)) < 0.33] = draw.choice([-SETTLED, SETTLED])
            for name, data in zip(op.inputs[1:], (weight, bias), strict=True):
                tensors[name] = replace(tensors[name], data=data)
    return replace(graph, tensors=tensors)


def test_residual_streams_lose_a_channel_only_everywhere() -> None:
    """y = conv(x + f(x)): a channel of the stream goes only if nobody needs it on either branch."""
    draw = np.random.default_rng(5)
    weight = draw.integers(-127, 128, (8, 1, 1, 8)).astype(np.int8)
    last = draw.integers(1, 128, (8, 1, 1, 8)).astype(np.int8)
    last[..., :4] = 0
    weight[4:, ..., :3] = 0  # channel 3 is read by the branch alone
    names = ["x", "a", "b", "s", "y"]
    tensors = [g.Tensor(name, (1, 3, 3, 8), "int8", (0.1,), 0) for name in names]
    tensors += [g.Tensor(name, data.shape, data=data) for name, data in (("w", weight), ("v", last))]
    tensors.append(g.Tensor("c", (8,), "int32", data=np.zeros(8, np.int32)))
    half, factor = rescale_of(0.5), rescale_of(0.003)
    ops = (
        g.Conv(name="in", inputs=("x", "w", "c"), output="a", rescale=factor),
        g.Conv(name="branch", inputs=("a", "w", "c"), output="b", rescale=factor),
        g.Arithmetic(name="add", inputs=("a", "b"), output="s", kind="add", left=half, right=half,
                     output_rescale=rescale_of(2.0**-19)),
        g.Conv(name="out", inputs=("s", "v", "c"), output="y", rescale=factor),
    )  # fmt: skip
    graph = g.Graph("residual", {t.name: t for t in tensors}, ops, ("x",), ("y",))
    smaller = without_dead_channels(graph, "double")
    assert smaller.tensor("s").shape[-1] == 8  # 3 and the upper four are needed: rounded up to eight
    assert_same(graph, smaller, "double")
    weight[4:, ..., 3] = 0
    smaller = without_dead_channels(graph, "double")
    assert {smaller.tensor(name).shape[-1] for name in "abs"} == {4}
    assert_same(graph, smaller, "double")
