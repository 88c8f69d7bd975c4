"""Refit layers behind a cut by least squares, so that the network is useful before any training.

Walking both networks side by side, each layer y = W x + b (convolutions of all kinds too, group by group) gets the
change (Δ, δ) that minimises, over calibration examples and positions,

    ‖ z - z' - a (Δ x' + δ) ‖²  +  λ ‖Δ‖²

where x' is what the layer reads in the smaller network (errors of earlier layers included), z and z' are the values of
the original and the smaller network at the layer's anchor, and a is the per-channel scale of a batch norm in between.
The anchor is the batch norm or residual addition behind the layer, so that a block also makes up for errors that reach
it through its shortcut (He et al. 2017, "Channel pruning", eq. 4, with its asymmetric target for whole networks). Where
only rectifiers read the anchor, z below zero may be met by anything below zero (`prune.least_squares`).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from edgepress.analysis.channels import ChannelGroups
from edgepress.analysis.coupling import arguments
from edgepress.analysis.layout import atoms_of, blocks_of
from edgepress.ir.program import Program
from edgepress.passes.cut_channels import Mask
from edgepress.prune.heard import range_behind
from edgepress.prune.least_squares import Row, fit
from edgepress.prune.lockstep import Batches, Walker
from edgepress.prune.regression import channel_dim, from_matrix, grouped_rows_of, to_matrix
from edgepress.prune.sites import Site, find_sites

ROWS_PER_INPUT = 50  # rows of a regression per unknown: more cost time and gain nothing measurable
KEPT_BYTES = 256_000_000  # rows of a regression are kept up to here, else made anew each time they are read


def reconstruct(original: Program, smaller: Program, groups: ChannelGroups, atoms: Mask, batches: Batches) -> Program:
    """Refit every layer that can be, in order of execution.

    Args:
        groups, atoms: of `original`: what its channels are, and which atoms stayed.
        batches: calibration inputs; all their activations at a time are held in memory for the layers in flight.
    """
    sites = find_sites(smaller)
    first = Walker(original, batches, {site.anchor.name for site in sites})
    second = Walker(smaller, batches, {name for site in sites for name in site.held})
    changed: dict[str, Tensor] = {}
    names = smaller.state_names()
    for index, site in enumerate(sites):
        first.advance(site.anchor.name)
        second.advance(site.anchor.name)
        changed |= _refit(site, first, second, names, _stays(groups, atoms, site.anchor, channel_dim(site.layer)))
        second.rerun(site.chain)
        needed = {name for later in sites[index + 1 :] for name in later.held}
        first.release({site.anchor.name} - {later.anchor.name for later in sites[index + 1 :]})
        second.release(set(site.held) - needed)
    return smaller.with_state(changed, note=f"reconstruct: {len(sites)} layers refitted by least squares")


def _stays(groups: ChannelGroups, atoms: Mask, node: Node, dim: int) -> Tensor | None:
    """Indices of the channels of a node of the original network that are left, or None for all."""
    layout = groups.layouts[node.name][dim]
    if not blocks_of([layout]):
        return None
    found = atoms_of(layout)
    assert found is not None
    return torch.from_numpy(np.flatnonzero(atoms[found]))


def _refit(site: Site, first: Walker, second: Walker, names: dict[str, str], stays: Tensor | None) -> dict[str, Tensor]:
    """The new weights of one site, also written into the walker of the smaller network."""
    weight_name = names[arguments(site.layer)["weight"].name]
    weight, shift_name = second.state[weight_name], site.shift_name(names)
    rows = _Rows(site, first, second, stays, to_matrix(site.layer, weight).shape)
    delta, shift = fit(rows, range_behind(site.anchor), with_shift=shift_name is not None)
    scale = site.scale(second.state, names)
    alive = scale.abs() > 1e-6  # dead channels stay as they are
    inverse = torch.where(alive, 1 / torch.where(alive, scale, 1.0), 0.0)
    delta = delta * inverse.reshape(len(delta), -1, 1)
    changed = {weight_name: weight + from_matrix(site.layer, delta, weight).to(weight.dtype)}
    if shift_name is not None:
        factor = inverse if site.norm is None else alive  # a batch norm's shift comes after its scale
        changed[shift_name] = second.state[shift_name] + (shift.reshape(-1) * factor).to(weight.dtype)
    second.state.update(changed)
    return changed


class _Rows:
    """What one site reads and should give, batch by batch, as often as asked for.

    Args:
        shape: (groups, out, in) of the weight as matrices. stays: channels of the original network that are left.
    """

    def __init__(self, site: Site, first: Walker, second: Walker, stays: Tensor | None, shape: torch.Size) -> None:
        self._site, self._first, self._second, self._stays = site, first, second, stays
        self._groups, self._out, inputs = shape
        examples = sum(len(z) for z in second.values(site.anchor.name))
        self._per_example = max(1, ROWS_PER_INPUT * inputs // examples)
        floats = self._groups * examples * self._per_example * (inputs + 2 * self._out)
        self._kept = list(self._made()) if 4 * floats <= KEPT_BYTES else None

    def __iter__(self) -> Iterator[Row]:
        return self._made() if self._kept is None else iter(self._kept)

    def _made(self) -> Iterator[Row]:
        layer, dim, seed = self._site.layer, channel_dim(self._site.layer), 0
        for x, z, now in zip(
            self._second.values(self._site.source.name),
            self._first.values(self._site.anchor.name),
            self._second.values(self._site.anchor.name),
            strict=True,
        ):
            goal = z if self._stays is None else z.index_select(dim, self._stays)
            rows, both = grouped_rows_of(layer, x, self._side_by_side(goal, now, dim), self._per_example, seed)
            seed += rows.shape[1]
            yield rows, both[..., : self._out], both[..., self._out :]

    def _side_by_side(self, goal: Tensor, now: Tensor, dim: int) -> Tensor:
        """Both networks' channels, alternating by groups, so that each group of rows holds the two."""
        parts = [t.unflatten(dim, (self._groups, self._out)) for t in (goal, now)]
        return torch.cat(parts, dim + 1).flatten(dim, dim + 1)


def inputs_of(batches: Sequence[tuple[tuple[Tensor, ...], Tensor]]) -> list[tuple[Tensor, ...]]:
    """The inputs of labelled batches."""
    return [inputs for inputs, _ in batches]
