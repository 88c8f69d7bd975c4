"""Budgets on what a device needs, weighed by a gauge."""

from collections.abc import Callable, Mapping

import pytest
from torch import Tensor

from edgepress.analysis.costs import parameter_bytes, total_macs
from edgepress.errors import UserError
from edgepress.ir import Program
from edgepress.prune import PruneOptions, prune

Loss = Callable[[Tensor, Tensor], Tensor]
CHEAP = PruneOptions({}, criterion="l2", reconstruct=False)


def device(flash: float, instructions: float, asked: list[Program]) -> Callable[[Program], Mapping[str, float]]:
    """A made-up core: 5,000 bytes of code beside the weights, tiles of 64 products."""

    def gauge(program: Program) -> Mapping[str, float]:
        asked.append(program)
        executed = -(-total_macs(program) // 64) * 64
        return {"flash_bytes": (5000 + parameter_bytes(program)) / flash, "instructions": executed / instructions}

    return gauge


def test_all_limits_are_met_with_little_to_spare(network: Program, loss: Loss) -> None:
    asked: list[Program] = []
    flash, macs = 5000 + 0.6 * parameter_bytes(network), 0.505 * total_macs(network)
    gauge = device(flash, macs, asked)
    smaller = prune(network, CHEAP, [], loss, gauge=gauge).program
    ratios = gauge(smaller)
    assert max(ratios.values()) <= 1
    assert max(ratios.values()) > 0.9, "one of the limits is nearly used up"
    assert len(asked) < 40


def test_a_network_that_fits_stays_as_it_is(network: Program, loss: Loss) -> None:
    asked: list[Program] = []
    result = prune(network, CHEAP, [], loss, gauge=device(1e9, 1e12, asked))
    assert not result.changed
    assert len(asked) == 1


def test_shares_of_costs_hold_beside_it(network: Program, loss: Loss) -> None:
    options = PruneOptions({"macs": 0.5}, criterion="l2", reconstruct=False)
    smaller = prune(network, options, [], loss, gauge=device(1e9, 1e12, [])).program
    assert total_macs(smaller) <= 0.5 * total_macs(network)


def test_what_no_cut_can_reach_is_refused(network: Program, loss: Loss) -> None:
    with pytest.raises(UserError, match="flash_bytes is out of reach") as caught:
        prune(network, CHEAP, [], loss, gauge=device(4000, 1e12, []))
    assert "times the limit after the deepest cut" in str(caught.value)


def test_one_iteration_and_no_clock_beside_it(network: Program, loss: Loss) -> None:
    for options in (PruneOptions({}, iterations=2), PruneOptions({"latency": 0.5})):
        with pytest.raises(UserError, match="several iterations"):
            prune(network, options, [], loss, gauge=device(1, 1, []))
