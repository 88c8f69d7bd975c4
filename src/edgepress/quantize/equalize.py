"""Cross-layer equalization (Nagel et al. 2019, section 4.1): channels of neighbouring layers share their range.

With r1 the range of a channel's weights where it is produced and r2 where it is read, s = sqrt(r1 / r2) makes both
sqrt(r1 r2) (eq. 11): one scale per tensor then serves every channel alike.
"""

import torch

from edgepress.analysis.links import Link, find_links
from edgepress.analysis.operators import CONVOLUTIONS
from edgepress.ir.program import PassResult, Program
from edgepress.passes.rescale_channels import (
    Rescale,
    Tensors,
    input_reach,
    move,
    rescale_channels,
    weight_name,
    weights_along,
)

ROUNDS = 40
SETTLED = 1e-3  # change of the factors, as a logarithm, at which more rounds are idle
BOUNDS = 1e-4, 1e4  # of one round's factor: a channel that is nearly dead must not swallow its neighbour
LAYERS = (*CONVOLUTIONS, torch.ops.aten.linear.default)


def equalize(program: Program) -> PassResult:
    """The program with equal ranges along every link between layers; it computes the same as before.

    Batch norms should be folded. Refusals name the layers that are not linked and why.
    """
    links, refusals = find_links(program, LAYERS)
    weights = weights_along(program, links)
    total: dict[Link, torch.Tensor] = {}
    for _ in range(ROUNDS):
        change = 0.0
        for link in links:
            factors = _factors(program, weights, link)
            move(program, weights, Rescale(link, factors))
            total[link] = total.get(link, torch.ones_like(factors)) * factors
            change = max(change, float(factors.log().abs().max()))
        if change < SETTLED:
            break
    done = rescale_channels(program, [Rescale(link, factors) for link, factors in total.items()])
    return PassResult(done.program, done.changed, tuple(refusals))


def _factors(program: Program, weights: Tensors, link: Link) -> torch.Tensor:
    own = weights[weight_name(program, link.producer)]
    produced = own.flatten(1).abs().amax(1)
    read = torch.stack([input_reach(c, weights[weight_name(program, c)]) for c in link.consumers]).amax(0)
    alive = (produced > 0) & (read > 0)
    return torch.where(alive, (produced / read.clamp_min(1e-30)).sqrt().clamp(*BOUNDS), 1.0)
