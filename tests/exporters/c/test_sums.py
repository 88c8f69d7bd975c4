"""Sums of products over any axes, quotients, functions of sums: C equals the reference, and that the real function."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepress.errors import UserError
from edgepress.exporters.c import Options, arithmetic
from edgepress.exporters.c import graph as g
from edgepress.exporters.c.arithmetic import QUOTIENT_BITS, rescale_of
from edgepress.exporters.c.export import export_graph, reference
from edgepress.exporters.c.interpret_sums import stairs
from edgepress.exporters.c.staircases import LOWEST, MOST_SUMS, buckets, staircase
from edgepress.targets.emulate import deploy, why_not

Draw = np.random.Generator


def walked(draw: Draw, counts: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(shape, steps) of an operand that is repeated over some axes of `counts`, in any order of the others."""
    kept = [n if draw.random() < 0.7 else 1 for n in counts]
    order = draw.permutation(len(counts))
    strides = {int(axis): int(np.prod([kept[a] for a in order[at + 1 :]])) for at, axis in enumerate(order)}
    steps = tuple(strides[axis] if kept[axis] > 1 else 0 for axis in range(len(counts)))
    return tuple(kept[axis] for axis in order), steps


def operands(draw: Draw, loops: int) -> tuple[tuple[int, ...], list[g.Tensor], list[tuple[int, ...]]]:
    """Counts, two tensors (the second sometimes constant) and their steps."""
    counts = tuple(int(n) for n in draw.integers(1, 6, loops))
    tensors, steps = [], []
    for name in "ab":
        shape, walk = walked(draw, counts)
        data = draw.integers(-128, 128, shape).astype(np.int8) if name == "b" and draw.random() < 0.5 else None
        zero = int(draw.choice([-128, 0, 17, 127]))
        tensors.append(g.Tensor(name, shape, "int8", (0.05,), zero, data))
        steps.append(walk)
    return counts, tensors, steps


def graph_of(op: g.Op, *tensors: g.Tensor) -> g.Graph:
    held = {t.name: t for t in tensors}
    inputs = tuple(name for name in dict.fromkeys(op.inputs) if held[name].data is None)
    return g.Graph("one", held, (op,), inputs, (op.output,))


def limits(draw: Draw) -> tuple[int, int]:
    low, high = sorted(draw.integers(-128, 128, 2).tolist())
    return g.FULL_RANGE if draw.random() < 0.7 else (low, high)


def contract(draw: Draw) -> g.Graph:
    summed = int(draw.integers(0, 4))
    counts, (a, b), steps = operands(draw, summed + int(draw.integers(1, 4)))
    alone = draw.random() < 0.3
    loops = g.Loops(counts, steps[0], (0,) * len(counts) if alone else steps[1], summed)
    factor = rescale_of(float(draw.choice([3e-5, 2e-3, 0.1, 2.0**-34, 4.0])))
    names = ("a",) if alone else ("a", "a") if draw.random() < 0.2 else ("a", "b")
    if names == ("a", "a"):
        loops = g.Loops(counts, steps[0], steps[0], summed)
    op = g.Contract(name="sum", inputs=names, output="y", loops=loops, rescale=factor, clamp=limits(draw))
    return graph_of(op, a, b, result(draw, counts, summed))


def result(draw: Draw, counts: tuple[int, ...], summed: int) -> g.Tensor:
    return g.Tensor("y", counts[: len(counts) - summed], "int8", (0.05,), int(draw.choice([-128, 0, 17])))


def steps_of_sums(draw: Draw) -> g.Graph:
    summed = int(draw.integers(1, 3))
    counts, (a, b), steps = operands(draw, summed + int(draw.integers(1, 4)))
    loops = g.Loops(counts, steps[0], steps[1], summed)
    sums, _ = buckets([a.zero_point, b.zero_point], loops.products, squares=False)
    waves = (sums - sums[0]) / (sums[-1] - sums[0]) * float(draw.uniform(0.3, 40))
    codes = np.clip(np.rint(100 * np.sin(waves)), -128, 127)
    op = g.Contract(name="sum", inputs=("a", "b"), output="y", loops=loops, staircase=staircase("s", sums, codes))
    return graph_of(op, a, b, result(draw, counts, summed))


def divide(draw: Draw) -> g.Graph:
    counts, (a, b), steps = operands(draw, int(draw.integers(1, 5)))
    factor = rescale_of(float(draw.choice([1e-3, 0.3, 10.0, 900.0])) / 2**QUOTIENT_BITS)
    loops = g.Loops(counts, steps[0], steps[1])
    op = g.Divide(name="over", inputs=("a", "b"), output="y", loops=loops, rescale=factor, clamp=limits(draw))
    return graph_of(op, a, b, result(draw, counts, 0))


def repeat(draw: Draw) -> g.Graph:
    shape = (1, *(int(n) if draw.random() < 0.6 else 1 for n in draw.integers(1, 6, 3)))
    wide = tuple(n if n > 1 else int(m) for n, m in zip(shape, draw.integers(2, 5, 4), strict=True))
    step = tuple(int(n == m) for n, m in zip(shape, wide, strict=True))
    op = g.Slice(name="again", inputs=("a",), output="y", start=(0,) * 4, step=step)
    return graph_of(op, g.Tensor("a", shape), g.Tensor("y", wide))


MAKERS = {f.__name__: f for f in (contract, steps_of_sums, divide, repeat)}


def rows_for(graph: g.Graph, draw: Draw, count: int = 4) -> np.ndarray:
    size = sum(graph.tensor(name).nbytes for name in graph.inputs)
    extremes = [np.full((1, size), value) for value in (-128, 127, 17)]
    return np.concatenate([draw.integers(-128, 128, (count, size)), *extremes]).astype(np.int8)


@pytest.mark.parametrize("rounding", ["double", "single"])
@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("seed", range(8))
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
    draw = np.random.default_rng(3)
    graph = MAKERS[kind](draw)
    export_graph(graph, source_file, tmp_path / "c", options=Options(target=core, golden=1))
    rows = rows_for(graph, draw)
    engine = "unicorn" if compiler else "auto"
    found = deploy(tmp_path / "c", rows, engine=engine, compiler=compiler, counted=0)
    np.testing.assert_array_equal(found.outputs, np.stack([reference(graph, row) for row in rows]))


# --- the reference against the real function ------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.integers(-255, 255), st.integers(-255, 255))
def test_a_quotient_is_that_of_floating_point(a: int, b: int) -> None:
    found = int(arithmetic.quotient(np.array([a]), np.array([b]))[0])
    if b == 0:
        assert found == (0 if a == 0 else np.sign(a) * arithmetic.INT32_MAX)
    else:
        exact = a / b * 2**QUOTIENT_BITS
        assert abs(found - exact) <= 0.5


def test_a_staircase_is_the_function_at_every_sum() -> None:
    sums, width = buckets([0], 300, squares=False)
    codes = np.clip(np.rint(0.02 * sums + 40 * np.sin(sums / 700)), -128, 127)
    assert width == 1 and (sums[0], sums[-1]) == (-128 * 300, 127 * 300)
    found = staircase("f", sums, codes)
    np.testing.assert_array_equal(stairs(found, sums), codes)
    assert found.starts[0] == LOWEST and len(found.starts) < 700


def test_wide_sums_fall_into_buckets() -> None:
    sums, width = buckets([-128, -128], 1000, squares=False)
    assert width == 64 and len(sums) <= MOST_SUMS
    sums, _ = buckets([5, 5], 8, squares=True)
    assert (sums[0], sums[-1]) == (0, 8 * 133**2)


def test_a_function_with_too_many_steps_is_refused() -> None:
    sums = np.arange(20000)
    with pytest.raises(UserError, match="too long"):
        staircase("f", sums, sums % 2)


def test_sums_that_leave_32_bits_are_refused(source_file: Path, tmp_path: Path) -> None:
    loops = g.Loops((1, 40000), (0, 1), (0, 1), 1)
    op = g.Contract(name="sum", inputs=("a", "a"), output="y", loops=loops, rescale=rescale_of(1e-6))
    graph = graph_of(op, g.Tensor("a", (1, 40000)), g.Tensor("y", (1,)))
    with pytest.raises(UserError, match="32 bits"):
        export_graph(graph, source_file, tmp_path / "c", options=Options())


def test_more_axes_than_loops_are_refused(source_file: Path, tmp_path: Path) -> None:
    steps = tuple(2**i for i in range(6))  # the wrong way round: no two axes join
    op = g.Contract(
        name="sum", inputs=("a",), output="y", loops=g.Loops((2,) * 6, steps, (0,) * 6), rescale=rescale_of(1)
    )
    graph = graph_of(op, g.Tensor("a", (64,)), g.Tensor("y", (2,) * 6))
    with pytest.raises(UserError, match="too many axes"):
        export_graph(graph, source_file, tmp_path / "c", options=Options())


def test_a_quotient_without_room_for_its_scale_is_refused(source_file: Path, tmp_path: Path) -> None:
    op = g.Divide(name="over", inputs=("a", "b"), output="y", loops=g.Loops((4,), (1,), (1,)), rescale=rescale_of(3.0))
    graph = graph_of(op, g.Tensor("a", (4,)), g.Tensor("b", (4,)), g.Tensor("y", (4,)))
    with pytest.raises(UserError, match="scale of the quotient"):
        export_graph(graph, source_file, tmp_path / "c", options=Options())
