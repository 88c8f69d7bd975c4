"""A cut network equals the original with the cut channels' contributions zeroed."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tests.analysis.networks import NETWORKS, program_of
from torch.fx import Node

from edgepress.analysis.channel_plan import ChannelPlan
from edgepress.analysis.channels import ChannelGroups, channel_groups
from edgepress.analysis.costs import parameter_bytes, total_macs
from edgepress.analysis.execute import execute
from edgepress.analysis.layout import Layout, blocks_of
from edgepress.analysis.planned_costs import cost_model
from edgepress.analysis.pruning_terms import Attention
from edgepress.errors import UserError
from edgepress.ir import Program, load, save
from edgepress.passes.cut_channels import atoms_kept, cut_channels

# A norm over channels takes its statistics from those that are left: there, only groups it does not see are compared.
NORMALIZED = dict.fromkeys(
    ("transformer", "chunked_transformer", "grouped_query", "masked_transformer", "windows", "named_axes"), "embed"
)


CASES: list[tuple[str, Attention]] = [
    *((name, "heads") for name in NETWORKS),
    *(
        (name, "width")
        for name in ("transformer", "chunked_transformer", "grouped_query", "masked_transformer", "named_axes")
    ),
]


@cache
def prepared(name: str, attention: Attention = "heads") -> tuple[Program, ChannelGroups]:
    program = program_of(name)
    return program, channel_groups(program, attention)


def random_plan(groups: ChannelGroups, seed: int, share: float) -> ChannelPlan:
    """Each group keeps a random part, one unit at least."""
    rng = np.random.default_rng(seed)
    keep = rng.random(groups.units) > share
    for group in groups.groups:
        keep[group.first + rng.integers(group.size)] = True
    return ChannelPlan.from_mask(groups, keep)


def zeroed(program: Program, groups: ChannelGroups, plan: ChannelPlan, x: torch.Tensor) -> torch.Tensor:
    """The original network with every cut channel set to zero in every tensor it appears in."""
    stays = torch.from_numpy(atoms_kept(groups, plan.mask(groups)))

    def watch(node: Node, value: Any) -> Any:
        layout = groups.layouts[node.name]
        if isinstance(value, list | tuple):
            return [masked(v, part, stays) for v, part in zip(value, layout, strict=True)]
        return masked(value, layout, stays) if isinstance(value, torch.Tensor) else value

    with torch.no_grad():
        return execute(program, [x], watch, state=zeroed_weights(program, groups, stays))


def zeroed_weights(program: Program, groups: ChannelGroups, stays: torch.Tensor) -> dict[str, torch.Tensor]:
    """The weights with every cut position zero: hidden units of a recurrent layer act on each other inside one node."""
    state = dict(program.state())
    for name in program.parameter_names():
        for axis, atoms in enumerate(groups.tensors.get(name, ())):
            if len(atoms) == state[name].shape[axis]:
                shape = [-1 if i == axis else 1 for i in range(state[name].dim())]
                state[name] = state[name] * stays[torch.as_tensor(atoms)].reshape(shape)
    return state


def masked(value: torch.Tensor, layout: Layout, stays: torch.Tensor) -> torch.Tensor:
    factors = [f for dim in layout for f in dim]
    split = value.reshape(_factor_sizes(value, layout))
    for block in blocks_of(layout):
        mask = stays[torch.tensor(block.atoms)]
        order = [f.axis for f in factors if f.block is block]
        shape = [f.size if f.block is block else 1 for f in factors]
        gone = mask.permute(order).reshape(shape) == 0
        split = split.masked_fill(gone, 0)  # no product: masks of attention hold infinities
    return split.reshape(value.shape)


def _factor_sizes(value: torch.Tensor, layout: Layout) -> list[int]:
    """Sizes of all factors, with the present batch in place of the example's."""
    found: list[int] = []
    for size, dim in zip(value.shape, layout, strict=True):
        parts = [f.size for f in dim]
        if parts and int(np.prod(parts)) != size:
            parts[0] = size // int(np.prod(parts[1:]))
        found += parts
    return found


@pytest.mark.parametrize(("name", "attention"), CASES)
@settings(max_examples=2, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(seed=st.integers(0, 2**31), share=st.sampled_from([0.2, 0.5, 0.9]))
def test_cutting_equals_zeroing(name: str, attention: Attention, seed: int, share: float) -> None:
    program, groups = prepared(name, attention)
    plan = random_plan(groups, seed, share)
    plan = ChannelPlan({g: k for g, k in plan.kept.items() if not g.startswith(NORMALIZED.get(name, "-"))}, plan.sizes)
    result = cut_channels(program, plan, groups)
    assert result.changed == bool(plan.removed)
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(result.program(x), zeroed(program, groups, plan, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "attention"), CASES)
@settings(max_examples=2, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(seed=st.integers(0, 2**31))
def test_planned_costs_are_the_costs_of_the_cut_network(name: str, attention: Attention, seed: int) -> None:
    program, groups = prepared(name, attention)
    plan = random_plan(groups, seed, 0.4)
    smaller = cut_channels(program, plan, groups).program
    keep = plan.mask(groups)
    real = {"macs": total_macs(smaller), "params": smaller.parameter_count(), "bytes": parameter_bytes(smaller)}
    for kind, expected in real.items():
        assert cost_model(program, groups, kind).total(keep) == pytest.approx(expected, rel=1e-6), kind


@pytest.mark.parametrize(("name", "attention"), CASES)
def test_cut_networks_are_cut_again_and_saved(name: str, attention: Attention, tmp_path: Any) -> None:
    program, groups = prepared(name, attention)
    once = cut_channels(program, random_plan(groups, 1, 0.3), groups).program
    again = channel_groups(once, attention)
    assert again.units == int(random_plan(groups, 1, 0.3).mask(groups).sum()) or again.units < groups.units
    save(once, tmp_path)
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(load(tmp_path)(x), once(x))


def test_an_empty_plan_changes_nothing() -> None:
    program, groups = prepared("plain")
    result = cut_channels(program, ChannelPlan(), groups)
    assert (result.changed, result.program) == (False, program)


def test_plan_survives_json_and_reads_well() -> None:
    _, groups = prepared("plain")
    plan = random_plan(groups, 0, 0.5)
    assert ChannelPlan.from_json(plan.to_json()) == plan
    assert "0.weight" in plan.to_text()
    assert ChannelPlan().to_text() == "nothing is cut"


@pytest.mark.parametrize("kept", [(), (0, 99)])
def test_a_plan_that_does_not_fit_is_refused(kept: tuple[int, ...]) -> None:
    program, groups = prepared("plain")
    with pytest.raises(UserError, match="does not fit"):
        cut_channels(program, ChannelPlan({"0.weight": kept}, {"0.weight": 8}), groups)
    with pytest.raises(UserError, match="does not fit"):
        cut_channels(program, ChannelPlan({"nothing": (0,)}, {"nothing": 8}))
