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
