"""Channels of a transformer's activations made alike before they are quantized, at the expense of the weights behind.

SmoothQuant (Xiao et al. 2023, eq. 4): s_j = max|X_j|^a / max|W_j|^(1-a) for activations and weights of eight bits.
AWQ (Lin et al. 2024, eq. 4 and 5): s_j = mean|X_j|^a for weights alone, with the a that leaves the least error.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch

from edgepress.analysis.links import Link, find_links
from edgepress.ir.program import PassResult, Program
from edgepress.ir.quant_plan import QuantPlan, WeightPoint
from edgepress.passes.rescale_channels import Rescale, input_reach, rescale_channels, weight_name
from edgepress.quantize.calibrate import Batch
from edgepress.quantize.gptq import output_error
from edgepress.quantize.qparams import rounded_weight
from edgepress.quantize.watch import Watched

aten = torch.ops.aten
SMALLEST = 1e-5
STEPS = 20  # values of a that AWQ tries, from 0 (nothing moved) to 1


def smooth(program: Program, batches: Iterable[Batch], strength: float = 0.5) -> PassResult:
    """The program with ranges moved from activations behind layer norms into the weights that read them.

    Args:
        strength: a, from 0 (ranges of the weights alone decide) to 1 (all goes into the weights).
    """
    links, refusals = find_links(program, (aten.layer_norm.default,))
    links = tuple(link for link in links if _all_linear(link))
    seen, state = _watch(program, links, batches), program.state()
    rescales = []
    for link in links:
        weights = [input_reach(c, state[weight_name(program, c)].detach().double()) for c in link.consumers]
        reach = torch.stack(weights).amax(0).clamp_min(SMALLEST)
        factors = (seen[link].largest.clamp_min(SMALLEST) ** strength / reach ** (1 - strength)).clamp_min(SMALLEST)
        rescales.append(Rescale(link, factors))
    done = rescale_channels(program, rescales)
    return PassResult(done.program, done.changed, tuple(refusals))


def activation_aware(program: Program, plan: QuantPlan, batches: Iterable[Batch]) -> PassResult:
    """The program with the channels that matter most made larger before their weights are rounded (AWQ).

    Args:
        plan: says on which grids the weights will be rounded; layers it leaves float are left alone.
    """
    links, refusals = find_links(program)
    links = tuple(link for link in links if _all_linear(link) and _points(program, plan, link))
    seen = _watch(program, links, batches)
    rescales = [r for r in (_best(program, plan, link, seen[link]) for link in links) if r is not None]
    done = rescale_channels(program, rescales)
    return PassResult(done.program, done.changed, tuple(refusals))


@dataclass
class _Seen:
    """What the channels of one value look like: largest and mean magnitude, second moments."""

    largest: torch.Tensor = field(default_factory=lambda: torch.zeros(()))
    total: torch.Tensor = field(default_factory=lambda: torch.zeros(()))
    second: torch.Tensor = field(default_factory=lambda: torch.zeros(()))
    count: int = 0

    def look(self, value: torch.Tensor) -> None:
        rows = value.reshape(-1, value.shape[-1]).double()
        self.largest = torch.maximum(self.largest, rows.abs().amax(0))
        self.total = self.total + rows.abs().sum(0)
        self.second = self.second + rows.T @ rows
        self.count += len(rows)


def _all_linear(link: Link) -> bool:
    return all(c.target == aten.linear.default for c in link.consumers)


def _watch(program: Program, links: Iterable[Link], batches: Iterable[Batch]) -> Mapping[Link, _Seen]:
    seen = {link: _Seen() for link in links}
    looks = {link.value.name: seen[link].look for link in seen}
    watched = Watched(program, looks)
    for batch in batches if looks else ():
        watched.outputs(batch)
    return seen


def _points(program: Program, plan: QuantPlan, link: Link) -> list[WeightPoint]:
    found = [plan.weight(weight_name(program, c)) for c in link.consumers]
    return [p for p in found if p is not None]


def _best(program: Program, plan: QuantPlan, link: Link, seen: _Seen) -> Rescale | None:
    """The factors with the least output error of all consumers together; `None` where moving nothing is best."""
    state, mean = program.state(), (seen.total / seen.count).clamp_min(SMALLEST)
    weights = [(p, state[p.tensor].detach().double()) for p in _points(program, plan, link)]
    best, least = None, _error(weights, torch.ones_like(mean), seen.second)
    for step in range(1, STEPS + 1):
        factors = mean ** (step / STEPS)
        factors = (factors / (factors.max() * factors.min()).sqrt()).clamp(1e-4, 1e4)
        error = _error(weights, factors, seen.second)
        if error < least:
            best, least = factors, error
    return None if best is None else Rescale(link, best)


def _error(weights: list[tuple[WeightPoint, torch.Tensor]], factors: torch.Tensor, second: torch.Tensor) -> float:
    """Sum of E|(W - Q(W s) / s) x|^2."""
    total = 0.0
    for point, weight in weights:
        stored = rounded_weight((weight * factors).float(), point).double() / factors
        total += float(output_error((weight - stored)[None], second[None]).sum())
    return total
