"""Attention, recurrent layers, normalization, embeddings: C equals the reference, and that the real function."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepress.errors import UserError
from edgepress.exporters.c import Options
from edgepress.exporters.c import graph as g
from edgepress.exporters.c.arithmetic import GATE_STEP, SIGMOID, TANH, gate, normalized, rescale_of
from edgepress.exporters.c.export import export_graph, reference
from edgepress.exporters.c.tflite import softmax_factors
from edgepress.targets.emulate import deploy, why_not

Draw = np.random.Generator


def tensor(draw: Draw, name: str, shape: tuple[int, ...], scale: float = 0.05) -> g.Tensor:
    return g.Tensor(name, shape, "int8", (scale,), int(draw.choice([-128, 0, 17, 127])))


def constant(name: str, values: np.ndarray, dtype: g.DType) -> g.Tensor:
    return g.Tensor(name, values.shape, dtype, data=values.astype(dtype))


def graph_of(op: g.Op, *tensors: g.Tensor) -> g.Graph:
    held = {t.name: t for t in tensors}
    inputs = tuple(name for name in op.inputs if held[name].data is None)
    return g.Graph("one", held, (op,), inputs, (op.output,))


def layer_norm(draw: Draw) -> g.Graph:
    shape = (1, int(draw.integers(1, 6)), int(draw.integers(1, 70)))
    bits = int(draw.integers(0, 15))
    gamma = constant("gamma", draw.integers(-(2**14), 2**14, shape[2]), "int32")
    beta = constant("beta", draw.integers(-(2 ** min(30, bits + 7)), 2 ** min(30, bits + 7), shape[2]), "int32")
    epsilon = int(draw.choice([0, 1, 1000, 2**55]))
    op = g.LayerNorm(name="norm", inputs=("x", "gamma", "beta"), output="y", bits=bits, epsilon=epsilon)
    return graph_of(op, tensor(draw, "x", shape), gamma, beta, tensor(draw, "y", shape))


def attention(draw: Draw) -> g.Graph:
    heads, rows, columns, depth, width = (int(n) for n in draw.integers(1, 9, 5))
    width = depth if draw.random() < 0.5 else width
    q, k, v = (
        tensor(draw, name, (1, heads, n, d), float(draw.uniform(0.01, 0.2)))
        for name, n, d in (("q", rows, depth), ("k", columns, depth), ("v", columns, width))
    )
    op = g.Attention(
        name="attention",
        inputs=("q", "k", "v"),
        output="y",
        rescale=rescale_of(float(draw.uniform(0.2, 3)) / 2**15),
        causal=bool(draw.random() < 0.5),
        **softmax_factors(q.scale[0] * k.scale[0] * float(draw.choice([1e-6, 0.3, 1.0, 100.0]))),
    )
    return graph_of(op, q, k, v, tensor(draw, "y", (1, heads, rows, width)))


def recurrent(draw: Draw) -> g.Graph:
    kind = str(draw.choice(["lstm", "gru"]))
    steps, inputs, hidden = (int(n) for n in draw.integers(1, 12, 3))
    rows = hidden * {"lstm": 4, "gru": 3}[kind]
    arrays = {
        "w": (draw.integers(-128, 128, (rows, inputs)), "int8"),
        "r": (draw.integers(-128, 128, (rows, hidden)), "int8"),
        "b": (draw.integers(-(2**14), 2**14, rows), "int32"),
        "rb": (draw.integers(-(2**22), 2**22, rows) if kind == "gru" else np.zeros(rows), "int32"),
    }
    constants = [constant(name, values, dtype) for name, (values, dtype) in arrays.items()]
    op = g.Recurrent(
        name="cell",
        inputs=("x", *arrays),
        output="y",
        kind=kind,
        from_input=rescale_of(*draw.uniform(0.01, 1.0, rows)),
        from_state=rescale_of(*draw.uniform(1e-5, 5e-3, rows)),
        output_rescale=rescale_of(float(draw.choice([2.0**-8, 2.0**-7, 2.0**-12]))),
        reverse=bool(draw.random() < 0.5),
    )
    x, y = tensor(draw, "x", (1, steps, inputs)), tensor(draw, "y", (1, steps, hidden))
    return graph_of(op, x, *constants, y)


def embedding(draw: Draw) -> g.Graph:
    rows, width, count = (int(n) for n in draw.integers(1, 9, 3))
    table = constant("table", draw.integers(-128, 128, (rows, width)), "int8")
    op = g.Embedding(name="words", inputs=("x", "table"), output="y")
    return graph_of(op, g.Tensor("x", (1, count), "int32"), table, tensor(draw, "y", (1, count, width)))


def subtracted(draw: Draw) -> g.Graph:
    """A constant less an activation, repeated over rows; and a part of a concatenation that is constant."""
    shape = (1, int(draw.integers(1, 5)), int(draw.integers(1, 9)))
    b = g.Tensor("b", shape[2:], "int8", (0.02,), 0, draw.integers(-128, 128, shape[2]).astype(np.int8))
    factors = {"left": rescale_of(0.3), "right": rescale_of(0.5), "output_rescale": rescale_of(2.0**-19)}
    less = g.Arithmetic(name="less", inputs=("x", "b"), output="d", kind="rsub", **factors)
    row = constant("row", draw.integers(-128, 128, (1, 1, shape[2])), "int8")
    join = g.Concat(name="join", inputs=("row", "d"), output="y", axis=1)
    tensors = [tensor(draw, "x", shape), b, tensor(draw, "d", shape), row]
    tensors.append(tensor(draw, "y", (1, shape[1] + 1, shape[2])))
    return g.Graph("two", {t.name: t for t in tensors}, (less, join), ("x",), ("y",))


MAKERS = {f.__name__: f for f in (layer_norm, attention, recurrent, embedding, subtracted)}


def rows_for(graph: g.Graph, draw: Draw, count: int = 4) -> np.ndarray:
    """Random rows, one of each extreme, and one that is constant."""
    size = sum(graph.tensor(name).nbytes for name in graph.inputs)
    extremes = [np.full((1, size), value) for value in (-128, 127, 3)]
    return np.concatenate([draw.integers(-128, 128, (count, size)), *extremes]).astype(np.int8)


@pytest.mark.parametrize("rounding", ["double", "single"])
@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("seed", range(6))
def test_c_equals_the_reference(
    seed: int, kind: str, rounding: Any, host_runner: Any, source_file: Path, tmp_path: Path
) -> None:
    draw = np.random.default_rng(seed)
    graph = MAKERS[kind](draw)
    options = Options(target="host", rounding=rounding, golden=1)
    run = host_runner(export_graph(graph, source_file, tmp_path / "c", options=options), "-fsanitize=undefined",
                      "-fno-sanitize-recover")  # fmt: skip
    rows = rows_for(graph, draw)
    np.testing.assert_array_equal(run(rows), np.stack([reference(graph, row, rounding) for row in rows]))


@pytest.mark.emulator
@pytest.mark.parametrize(("core", "compiler"), [("cortex-m4", ""), ("cortex-m4", "zig"), ("cortex-m0", ""),
                                                ("cortex-m55", ""), ("rv32imc", ""), ("rv32imcv", "")])  # fmt: skip
@pytest.mark.parametrize("kind", MAKERS)
def test_cores_equal_the_reference(kind: str, core: str, compiler: str, source_file: Path, tmp_path: Path) -> None:
    if reason := why_not(core):
        pytest.skip(reason)
    if compiler == "zig" and find_spec("ziglang") is None:
        pytest.skip("ziglang is not installed")
    draw = np.random.default_rng(7)
    graph = MAKERS[kind](draw)
    export_graph(graph, source_file, tmp_path / "c", options=Options(target=core, golden=1))
    rows = rows_for(graph, draw)
    engine = "unicorn" if compiler else "auto"
    found = deploy(tmp_path / "c", rows, engine=engine, compiler=compiler, counted=0)
    np.testing.assert_array_equal(found.outputs, np.stack([reference(graph, row) for row in rows]))


# --- the reference against the real function ------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(-128, 127), min_size=2, max_size=64), st.integers(0, 10**6))
def test_a_normalized_row_is_that_of_floating_point(row: list[int], epsilon: int) -> None:
    x = np.array(row, np.int64)
    n = len(x)
    deviation = np.sqrt(max(1, n * (x * x).sum() - x.sum() ** 2 + epsilon)) / n
    np.testing.assert_allclose(normalized(x, epsilon) / 2**16, (x - x.mean()) / deviation, atol=2**-15, rtol=1e-6)


@pytest.mark.parametrize(("table", "function"), [(SIGMOID, lambda x: 1 / (1 + np.exp(-x))), (TANH, np.tanh)])
def test_gates_are_within_four_steps_of_the_function(
    table: tuple[int, ...], function: Callable[[np.ndarray], np.ndarray]
) -> None:
    x = np.arange(-32768, 32768)
    assert len(table) == 2 ** (16 - GATE_STEP) + 1
    assert np.abs(gate(x, table) - 32768 * function(x / 4096)).max() <= 4


def test_attention_follows_floating_point() -> None:
    draw = np.random.default_rng(3)
    shape, scale = (1, 2, 9, 8), 0.05
    tensors = [g.Tensor(name, shape, "int8", (scale,), 5) for name in "qkv"] + [g.Tensor("y", shape, "int8", (0.02,))]
    op = g.Attention(name="a", inputs=("q", "k", "v"), output="y", rescale=rescale_of(scale / 0.02 / 2**15),
                     causal=True, **softmax_factors(scale * scale / np.sqrt(8)))  # fmt: skip
    graph = graph_of(op, *tensors)
    row = draw.integers(-128, 128, 3 * 144).astype(np.int8)
    q, k, v = (scale * (part.reshape(shape).astype(float) - 5) for part in np.split(row, 3))
    scores = np.where(np.tril(np.ones((9, 9), bool)), q @ k.swapaxes(2, 3) / np.sqrt(8), -np.inf)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    expected = np.clip(np.rint(shares / shares.sum(-1, keepdims=True) @ v / 0.02), -128, 127)
    assert np.abs(reference(graph, row) - expected.reshape(-1)).max() <= 1


def test_rows_that_leave_32_bits_are_refused(source_file: Path, tmp_path: Path) -> None:
    length = 5000
    constants = [constant(name, np.ones(length), "int32") for name in ("gamma", "beta")]
    op = g.LayerNorm(name="norm", inputs=("x", "gamma", "beta"), output="y", bits=3, epsilon=1)
    graph = graph_of(op, g.Tensor("x", (1, length)), *constants, g.Tensor("y", (1, length)))
    with pytest.raises(UserError, match="row too long"):
        export_graph(graph, source_file, tmp_path / "c", options=Options())
