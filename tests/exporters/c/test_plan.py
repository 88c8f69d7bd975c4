"""The memory planner: valid, near its lower bound, and honest about overlaps."""

import itertools
from collections.abc import Callable

import pytest

from edgepress.exporters.c import graph as g
from edgepress.exporters.c import select
from edgepress.exporters.c.arithmetic import rescale_of
from edgepress.exporters.c.calls import Layer, Overlap
from edgepress.exporters.c.plan import check, plan_memory


def chain(*sizes: int) -> g.Graph:
    """Tensors of the given sizes, each a table of the one before."""
    tensors = {f"t{i}": g.Tensor(f"t{i}", (1, size)) for i, size in enumerate(sizes)}
    names = list(tensors)
    ops = [
        g.Lookup(name=f"op{i}", inputs=(a,), output=b, function="identity", table=())
        for i, (a, b) in enumerate(itertools.pairwise(names))
    ]
    return g.Graph("chain", tensors, tuple(ops), (names[0],), (names[-1],))


def layers(graph: g.Graph, overlap: Overlap | None = None, scratch: int = 0) -> list[Layer]:
    return [Layer(op, (), scratch=scratch, overlaps={op.inputs[0]: overlap} if overlap else {}) for op in graph.ops]


def test_a_chain_without_overlap_needs_its_largest_pair() -> None:
    graph = chain(100, 40, 60, 80)
    plan = plan_memory(graph, layers(graph))
    assert plan.arena == plan.lower_bound == plan.disjoint == 140


def test_in_place_layers_share_one_buffer() -> None:
    graph = chain(100, 100, 100)
    plan = plan_memory(graph, layers(graph, Overlap(0)))
    assert (plan.arena, plan.disjoint) == (100, 200)
    assert len(set(plan.offsets.values())) == 1


def test_a_trailing_output_costs_its_lead_only() -> None:
    graph = chain(1000, 1000)
    plan = plan_memory(graph, layers(graph, Overlap(lead=96)))
    assert plan.arena == plan.lower_bound == 1096
    assert plan.offsets["t0"] - plan.offsets["t1"] == 96


def test_a_modulus_is_kept() -> None:
    graph = chain(600, 600)
    plan = plan_memory(graph, layers(graph, Overlap(lead=1, modulus=10)))
    distance = plan.offsets["t0"] - plan.offsets["t1"]
    assert distance % 10 == 0 and distance >= 1


def test_scratch_lies_beside_what_is_alive() -> None:
    graph = chain(100, 100)
    plan = plan_memory(graph, layers(graph, Overlap(0), scratch=50))
    assert plan.arena == 152  # 50 rounded up to 52


def test_an_input_that_is_needed_later_is_not_overwritten() -> None:
    tensors = {name: g.Tensor(name, (1, 64)) for name in "abc"}
    first = g.Lookup(name="first", inputs=("a",), output="b", function="identity", table=())
    factor = rescale_of(0.5)
    last = g.Arithmetic(
        name="last", inputs=("b", "a"), output="c", kind="add", output_rescale=factor, left=factor, right=factor
    )
    graph = g.Graph("diamond", tensors, (first, last), ("a",), ("c",))
    plan = plan_memory(graph, layers(graph, Overlap(0)))
    assert plan.offsets["a"] != plan.offsets["b"]
    assert plan.arena == 128


@pytest.mark.parametrize("isa", ["c99", "scalar", "dsp", "mve"])
@pytest.mark.parametrize("seed", range(20))
def test_random_graphs_have_valid_plans(seed: int, isa: str, random_graph: Callable[[int], g.Graph]) -> None:
    graph = random_graph(seed)
    lowered = select.lower(graph, isa)
    plan = plan_memory(graph, lowered)
    check(graph, lowered, plan)
    assert plan.lower_bound <= plan.arena <= plan.disjoint


def test_a_broken_plan_is_found() -> None:
    graph = chain(100, 100)
    lowered = layers(graph)
    plan = plan_memory(graph, lowered)
    plan.offsets["t1"] = plan.offsets["t0"]
    with pytest.raises(ValueError, match="share memory"):
        check(graph, lowered, plan)


def sliced(start: tuple[int, ...], shape: tuple[int, ...], step: tuple[int, ...] = (1, 1, 1)) -> g.Graph:
    """A table of [1,6,8], a slice of it, and the slice added to another slice."""
    tensors = {name: g.Tensor(name, (1, 6, 8)) for name in ("x", "t")}
    tensors |= {name: g.Tensor(name, shape) for name in ("a", "b", "y")}
    factor = rescale_of(0.5)
    ops = (
        g.Lookup(name="table", inputs=("x",), output="t", function="identity", table=tuple(range(-128, 128))),
        g.Slice(name="one", inputs=("t",), output="a", start=(0, 0, 0), step=step),
        g.Slice(name="two", inputs=("t",), output="b", start=start, step=step),
        g.Arithmetic(name="sum", inputs=("a", "b"), output="y", kind="add", output_rescale=rescale_of(2.0**-19),
                     left=factor, right=factor),
    )  # fmt: skip
    return g.Graph("sliced", tensors, ops, ("x",), ("y",))


def test_slices_of_one_stretch_are_views() -> None:
    graph = sliced((0, 3, 0), (1, 3, 8))
    lowered = select.lower(graph, "c99")
    plan = plan_memory(graph, lowered)
    check(graph, lowered, plan)
    assert [layer.calls for layer in lowered[1:3]] == [(), ()]
    assert plan.offsets["b"] - plan.offsets["a"] == 24
    sizes = {b.name: b.size for b in plan.buffers}
    assert plan.offsets["y"] >= plan.offsets["t"] + 48 or plan.offsets["y"] + sizes["y"] <= plan.offsets["t"], (
        "the sum reads two parts of one buffer, and may lie over neither"
    )


@pytest.mark.parametrize(("shape", "step"), [((1, 6, 4), (1, 1, 1)), ((1, 3, 8), (1, 2, 1))], ids=["inner", "strided"])
def test_other_slices_are_copied(shape: tuple[int, ...], step: tuple[int, ...]) -> None:
    graph = sliced((0, 0, 0), shape, step)
    assert all(layer.calls for layer in select.lower(graph, "c99")[1:3])
