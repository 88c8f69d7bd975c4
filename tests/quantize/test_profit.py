import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgepress.ir import Program, capture
from edgepress.ir.text import op_name
from edgepress.quantize.place import fusions, place
from edgepress.quantize.post_training import prepare
from edgepress.quantize.profit import Costs, losing_nodes
from edgepress.targets.capability import Capability, load_capability

X86: Capability = load_capability("onnxruntime-x86")


class Branches(nn.Module):
    """A stem, two branches that are added, a layer without an integer kernel between two that have one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.last = nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(self.left(x)) + self.right(x)
        return self.last(torch.exp(-x))


@pytest.fixture(scope="module")
def branches() -> Program:
    torch.manual_seed(0)
    return prepare(capture(Branches(), [torch.randn(2, 4, 6, 6)]))


def expense(program: Program, costs: Costs, integer: set[str]) -> float:
    """What a labelling costs, straight from its definition."""
    tails = {tail: head for head, tail in fusions(program, X86).items()}

    def on_integers(node: torch.fx.Node) -> bool:
        return tails.get(node, node).name in integer

    total = 0.0
    for node in program.nodes:
        table = costs.integer if on_integers(node) else costs.floating
        total += table.get(node.name, float("inf") if on_integers(node) else 0.0)
        rule = X86.rule(op_name(node))
        if on_integers(node) and node not in tails and rule and rule.role != "compute":
            total += 0.0 if all(on_integers(s) for s in node.args[:2] if isinstance(s, torch.fx.Node)) else float("inf")
    for value in [*program.user_inputs(), *program.nodes]:
        sides = {on_integers(u) if u.op != "output" else False for u in value.users if tails.get(u) is not value}
        size = int(np.prod([s for s in value.meta["val"].shape if isinstance(s, int)]))
        if not on_integers(value) and True in sides:
            total += costs.launch + costs.to_integer * size
        if on_integers(value) and False in sides:
            total += costs.launch + costs.to_float * size
    return total


@settings(max_examples=40, deadline=None)
@given(times=st.lists(st.integers(0, 20), min_size=20, max_size=20), launch=st.integers(0, 4))
def test_the_cut_is_the_cheapest_of_all_labellings(branches: Program, times: list[int], launch: int) -> None:
    names = [n.name for n in branches.nodes]
    able = {"conv2d", "conv2d_1", "conv2d_2", "conv2d_3", "add"}
    tails = {tail.name for tail in fusions(branches, X86).values()}
    costs = Costs(
        floating=dict(zip(names, map(float, times), strict=False)),
        integer={n: float(t) for n, t in zip(names, times[10:], strict=False) if n in able} | dict.fromkeys(tails, 0.0),
        launch=float(launch),
    )
    losing = losing_nodes(branches, X86, costs)
    found = expense(branches, costs, able - set(losing))
    every = (set(s) for n in range(len(able) + 1) for s in itertools.combinations(sorted(able), n))
    assert found == pytest.approx(min(expense(branches, costs, labelling) for labelling in every), abs=0.2)


def test_an_island_smaller_than_its_conversions_stays_float(branches: Program) -> None:
    names = ["conv2d", "relu", "conv2d_1", "relu_1", "conv2d_2", "add", "conv2d_3"]
    costs = Costs(dict.fromkeys(names, 10.0), dict.fromkeys(names, 9.5) | {"conv2d_3": 9.9}, launch=1.0)
    losing = losing_nodes(branches, X86, costs)
    assert "conv2d_3" in losing and "conv2d" not in losing
    assert "less than the conversions around it cost" in losing["conv2d_3"]


def test_what_is_slower_on_integers_stays_float_with_both_times(branches: Program) -> None:
    names = ["conv2d", "relu", "conv2d_1", "relu_1", "conv2d_2", "add", "conv2d_3"]
    costs = Costs(dict.fromkeys(names, 10.0), dict.fromkeys(names, 40.0))
    losing = losing_nodes(branches, X86, costs)
    assert set(losing) == set(names)
    assert losing["add"] == "measured: 40 us on integers, 10 us in float"


def test_placement_leaves_slow_nodes_float_and_says_what_was_measured(branches: Program) -> None:
    from edgepress.quantize.options import QuantOptions

    plan = place(branches, X86, QuantOptions(slow={"conv2d_1": "measured: 9 us on integers, 3 us in float"}))
    found = {n.node: n.found for n in plan.float_nodes}
    assert found["conv2d_1"].startswith("measured: 9 us")
    assert "conv2d_1" not in plan.quantized and "conv2d" in plan.quantized
