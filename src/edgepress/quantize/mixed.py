"""A width for every weight under a budget: what each width of each layer costs the output, then an exact allocation.

Sensitivity: one weight at a time is rounded by the closed forms of `round_layers`, with the float network's inputs, and
the network's output is compared (Kullback-Leibler divergence of class scores, relative squared error otherwise).
Errors of single layers are taken to add up. The allocation is a knapsack with one choice per layer, solved exactly as
an integer program (HiGHS): least error within the cost, or least cost within the error.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch.fx import Node

from edgepress.analysis.costs import node_costs
from edgepress.errors import UserError
from edgepress.ir.program import Program
from edgepress.ir.quant_plan import QuantPlan, WeightPoint
from edgepress.quantize.calibrate import Batch
from edgepress.quantize.moments import moments
from edgepress.quantize.options import Mixed
from edgepress.quantize.qparams import grid_with_bits
from edgepress.quantize.round_layers import gather, multiplied, solve_layer
from edgepress.quantize.walk import Walk

LayerBits = tuple[tuple[str, int, str], ...]
WEIGHT = 1  # position of the weight among the arguments of every layer that has one
EXACT = 1e-6  # relative gap at which the solver may stop


@dataclass(frozen=True)
class Option:
    """One width of one weight: error at the output, and cost in bits or bit operations."""

    tensor: str
    bits: int
    error: float
    cost: float


def mixed_bits(program: Program, plan: QuantPlan, batches: Iterable[Batch], wish: Mixed) -> LayerBits:
    """(weight's name, width, reason) for every weight of a placed plan.

    Raises:
        UserError: no width meets the budget.
    """
    table = sensitivities(program, plan, batches, wish)
    return explain(table, allocate(table, wish), wish)


def sensitivities(program: Program, plan: QuantPlan, batches: Iterable[Batch], wish: Mixed) -> tuple[Option, ...]:
    """Error and cost of every width of every weight."""
    walk = Walk(program, gather(batches, wish.samples))
    goal, macs, state = walk.fork().finish()[0], _macs(program), program.state()
    by_node = {point.nodes[0]: point for point in multiplied(program, plan)}
    found = []
    for node in [n for n in program.nodes if n.name in by_node]:
        point = by_node[node.name]
        weight = state[point.tensor].detach()
        size = weight.numel() if wish.cost == "bytes" else sum(macs[name] for name in point.nodes)
        errors = _errors(walk, node, point, weight, sorted(wish.widths), goal)
        found += [Option(point.tensor, bits, error, float(bits * size)) for bits, error in errors]
    return tuple(found)


def _errors(
    walk: Walk, node: Node, point: WeightPoint, weight: torch.Tensor, widths: list[int], goal: torch.Tensor
) -> Iterator[tuple[int, float]]:
    """(width, error) of one weight: the walk comes to its first reader, and goes on from there once per width."""
    here = walk.until(node.name)
    assert here is not None
    arguments = list(walk.arguments(here))
    seen = moments(here, arguments[0], arguments[0], weight)
    for bits in widths:
        narrow = point.model_copy(update={"grid": grid_with_bits(point.grid, bits)})
        arguments[WEIGHT] = solve_layer(here, narrow, weight, None, seen).weight
        branch = walk.fork()
        branch.compute(here, tuple(arguments))
        yield bits, _divergence(branch.finish()[0], goal)


def allocate(table: Sequence[Option], wish: Mixed) -> Mapping[str, Option]:
    """The chosen width of every weight.

    Raises:
        UserError: even the cheapest (or the most precise) widths do not meet the budget.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    names = list(dict.fromkeys(option.tensor for option in table))
    errors, costs = np.array([o.error for o in table]), np.array([o.cost for o in table])
    one_each = LinearConstraint(np.array([[o.tensor == name for o in table] for name in names], float), 1, 1)
    goal, limited, limit = errors, costs, wish.max_loss
    if limit is None:
        limit = _limit(table, wish)
    else:
        goal, limited = costs, errors
    within = LinearConstraint(limited[None] / max(limit, 1e-30), ub=1.0)
    solved = milp(
        goal / max(goal.max(), 1e-30),
        constraints=[one_each, within],
        integrality=np.ones(len(table)),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": EXACT},
    )
    if solved.x is None:
        least = sum(min(v for o, v in zip(table, limited, strict=True) if o.tensor == name) for name in names)
        raise UserError("no widths meet the budget", found=f"{least:.4g} at least", expected=f"{limit:.4g} at most",
                        fix="allow narrower or wider `widths`, or a larger budget")  # fmt: skip
    return {option.tensor: option for option, share in zip(table, solved.x, strict=True) if share > 0.5}


def explain(table: Sequence[Option], chosen: Mapping[str, Option], wish: Mixed) -> LayerBits:
    """The choices, each with what its neighbours would have cost."""
    return tuple((name, option.bits, _why(table, option, wish)) for name, option in chosen.items())


def _why(table: Sequence[Option], option: Option, wish: Mixed) -> str:
    others = {o.bits: o for o in table if o.tensor == option.tensor}
    below = max((b for b in others if b < option.bits), default=None)
    above = min((b for b in others if b > option.bits), default=None)
    unit, divisor = ("bytes", 8) if wish.cost == "bytes" else ("bit operations", 1)
    parts = []
    if below is not None:
        parts.append(f"{below} bits would add {others[below].error - option.error:.2g} to the error")
    if above is not None:
        gain = option.error - others[above].error
        price = (others[above].cost - option.cost) / divisor
        parts.append(f"{above} bits would take {gain:.2g} off for {price:,.0f} {unit}")
    return "; ".join(parts)


def _limit(table: Sequence[Option], wish: Mixed) -> float:
    assert wish.average_bits is not None
    per_bit = {o.tensor: o.cost / o.bits for o in table}
    return wish.average_bits * sum(per_bit.values())


def _macs(program: Program) -> dict[str, int]:
    return {cost.node: cost.macs for cost in node_costs(program)}


def _divergence(scores: torch.Tensor, goal: torch.Tensor) -> float:
    if goal.dim() >= 2 and goal.shape[-1] > 1 and goal.dim() < 4:
        kept, wanted = F.log_softmax(scores.double(), -1), F.log_softmax(goal.double(), -1)
        return float((wanted.exp() * (wanted - kept)).sum(-1).mean())
    return float((scores - goal).double().square().sum() / goal.double().square().sum().clamp_min(1e-30))
