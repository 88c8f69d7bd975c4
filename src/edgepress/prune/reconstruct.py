"""Refit layers behind a cut by least squares, so that the network is useful before any training.

Walking both networks side by side, each layer y = W x + b (convolutions of all kinds too, group by group) gets the
change (Δ, δ) that minimises, over calibration examples and positions,

    ‖ z - z' - a (Δ x' + δ) ‖²  +  λ ‖Δ‖²

where x' is what the layer reads in the smaller network (errors of earlier layers included), z and z' are the values of
the original and the smaller network at the layer's anchor, and a is the per-channel scale of a batch norm in between.
The anchor is the batch norm or residual addition behind the layer, so that a block also makes up for errors that reach
it through its shortcut (He et al. 2017, "Channel pruning", eq. 4, with its asymmetric target for whole networks).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
from edgepress.prune.lockstep import Batches, Walker
from edgepress.prune.regression import (
    can_refit,
    channel_dim,
    from_matrix,
    grouped_rows_of,
    to_matrix,
)

aten = torch.ops.aten
ADDITIONS = (aten.add.Tensor, aten.add_.Tensor)
ROWS_PER_INPUT = 50  # rows of a regression per unknown: more cost time and gain nothing measurable
ROUNDS = int(__import__("os").environ.get("ROUNDS", "3"))
RIDGE = 1e-4  # relative to the mean of the Gram matrix' diagonal


@dataclass(frozen=True)
class Site:
    """A layer to refit.

    Attributes:
        layer: the convolution or linear node. norm: batch norm that alone reads it, if any.
        anchor: last node of the chain layer, norm, residual addition; its value is what is matched.
    """

    layer: Node
    norm: Node | None
    anchor: Node

    @property
    def chain(self) -> list[str]:
        nodes = [self.layer, self.norm, self.anchor]
        return list(dict.fromkeys(n.name for n in nodes if n is not None))

    @property
    def held(self) -> list[str]:
        """The nodes whose values a refit reads: the chain and what it is computed from."""
        nodes = [n for n in (self.layer, self.norm, self.anchor) if n is not None]
        return list(dict.fromkeys(n.name for node in nodes for n in (*node.all_input_nodes, node)))


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


def find_sites(program: Program) -> list[Site]:
    """Convolutions of all kinds and linear layers with stored weights, in order of their anchors."""
    names = program.state_names()
    sites = [_site(node) for node in program.nodes if can_refit(node, names)]
    order = {node: i for i, node in enumerate(program.nodes)}
    return sorted(sites, key=lambda site: order[site.anchor])


def _site(layer: Node) -> Site:
    norm, anchor = None, layer
    reader = _only_reader(layer)
    if reader is not None and reader.target == aten.batch_norm.default and len(reader.args[0].users) == 1:  # type: ignore[union-attr]
        norm, anchor = reader, reader
        reader = _only_reader(reader)
    if reader is not None and _is_residual(reader, anchor):
        anchor = reader
    return Site(layer, norm, anchor)


def _only_reader(node: Node) -> Node | None:
    readers = list(node.users)
    return readers[0] if len(readers) == 1 else None


def _is_residual(addition: Node, branch: Node) -> bool:
    """Whether a node adds something else of the same shape to `branch`, once."""
    if addition.target not in ADDITIONS or addition.kwargs.get("alpha", 1) != 1:
        return False
    others = [a for a in addition.args if isinstance(a, Node) and a is not branch]
    return len(others) == 1 and all(
        str(n.meta["val"].shape) == str(branch.meta["val"].shape) for n in (*others, addition)
    )


def _source(site: Site) -> Node:
    source = arguments(site.layer)["input"]
    assert isinstance(source, Node)
    return source


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
    weight = second.state[weight_name]
    scale, shift_name = _scale(site, second, names), _shift_name(site, names)
    rows = _Rows(site, first, second, stays, to_matrix(site.layer, weight).shape)
    delta, shift = rows.solve(with_shift=shift_name is not None)
    alive = scale.abs() > 1e-6  # dead channels stay as they are
    inverse = torch.where(alive, 1 / torch.where(alive, scale, 1.0), 0.0)
    delta = delta * inverse.reshape(len(delta), -1, 1)
    changed = {weight_name: weight + from_matrix(site.layer, delta, weight).to(weight.dtype)}
    if shift_name is not None:
        factor = alive if site.norm is not None else inverse
        changed[shift_name] = second.state[shift_name] + (shift * factor).to(weight.dtype)
    second.state.update(changed)
    return changed


def _scale(site: Site, walker: Walker, names: dict[str, str]) -> Tensor:
    """a, (out,): γ / √(σ² + ε), or ones."""
    if site.norm is None:
        return torch.ones(site.layer.meta["val"].shape[channel_dim(site.layer)], dtype=torch.float64)
    gamma, variance = site.norm.args[1], site.norm.args[4]
    scale = (walker.state[names[variance.name]].double() + site.norm.args[7]).rsqrt()  # type: ignore
    return scale if gamma is None else scale * walker.state[names[gamma.name]].double()  # type: ignore


def _shift_name(site: Site, names: dict[str, str]) -> str | None:
    """The tensor that can take a shift per channel: the batch norm's, else the layer's bias."""
    node = site.norm.args[2] if site.norm is not None else arguments(site.layer)["bias"]
    return names[node.name] if isinstance(node, Node) and len(node.users) == 1 else None


class _Rows:
    """The regression of one site: its rows, batch by batch, made again whenever they are read.

    Args:
        shape: (groups, out, in) of the weight as matrices.
    """

    def __init__(self, site: Site, first: Walker, second: Walker, stays: Tensor | None, shape: torch.Size) -> None:
        self._site, self._first, self._second, self._stays = site, first, second, stays
        self._shape = shape
        self._heard = range_behind(site.anchor)
        examples = sum(len(z) for z in second.values(site.anchor.name))
        self._per_example = max(1, ROWS_PER_INPUT * shape[2] // examples)

    def solve(self, with_shift: bool) -> tuple[Tensor, Tensor]:
        """Δ (groups, out, in) and δ (channels,) with Δ x + δ ≈ z - z', both in units of the anchor."""
        system = self._system(with_shift)
        delta, shift = system.solve(self._cross(None))
        for _ in range(ROUNDS if self._heard else 0):
            delta, shift = system.solve(self._cross((delta, shift)))
        return delta, shift.reshape(-1)

    def _system(self, with_shift: bool) -> "_System":
        groups, _, width = self._shape
        gram = torch.zeros(groups, width, width, dtype=torch.float64)
        total, count = torch.zeros(groups, width, dtype=torch.float64), 0
        for x, _, _ in self._batches():
            gram += x.mT @ x
            total += x.sum(1)
            count += x.shape[1]
        return _System.of(gram / count, total / count, with_shift)

    def _cross(self, found: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """E[x yᵀ] (groups, in, out) and E[y] (groups, out) of what is to be made up for, given what was found so far."""
        groups, out, width = self._shape
        cross, total, count = (torch.zeros(groups, width, out, dtype=torch.float64),
                               torch.zeros(groups, out, dtype=torch.float64), 0)  # fmt: skip
        for x, goal, now in self._batches():
            if found is not None and self._heard:
                goal = self._heard.nearest(goal, now + x @ found[0].mT.to(x.dtype) + found[1][:, None].to(x.dtype))
            y = goal - now
            cross += x.mT @ y
            total += y.sum(1)
            count += x.shape[1]
        return cross / count, total / count

    def _batches(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Per batch (groups, rows, in), and (groups, rows, out) of both networks at the anchor."""
        layer, dim, seed = self._site.layer, channel_dim(self._site.layer), 0
        for x, z, now in zip(
            self._second.values(_source(self._site).name),
            self._first.values(self._site.anchor.name),
            self._second.values(self._site.anchor.name),
            strict=True,
        ):
            goal = z if self._stays is None else z.index_select(dim, self._stays)
            both = torch.cat([goal, now], dim)
            rows, values = grouped_rows_of(layer, x, both, self._per_example, seed)
            yield rows, *self._split(values)
            seed += rows.shape[1]

    def _split(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Both networks' values out of (groups, rows, 2 · out), whose channels were cut into groups one after the other."""
        groups, out, _ = self._shape
        flat = values.transpose(0, 1).reshape(values.shape[1], 2, groups, out)
        goal, now = flat.permute(1, 2, 0, 3)
        return goal, now


@dataclass(frozen=True)
class _System:
    """Normal equations of one gram matrix, for any number of right-hand sides."""

    factor: Tensor
    mean: Tensor
    with_shift: bool

    @classmethod
    def of(cls, gram: Tensor, mean: Tensor, with_shift: bool) -> "_System":
        if with_shift:
            gram = gram - mean[:, :, None] * mean[:, None, :]
        ridge = RIDGE * gram.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12)
        eye = torch.eye(gram.shape[1], dtype=gram.dtype)
        return cls(torch.linalg.cholesky(gram + ridge[:, None, None] * eye), mean, with_shift)

    def solve(self, right: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Δ (groups, out, in), δ (groups, out)."""
        cross, mean = right
        if self.with_shift:
            cross = cross - self.mean[:, :, None] * mean[:, None, :]
        solution = torch.cholesky_solve(cross, self.factor)
        shift = mean - (self.mean[:, None, :] @ solution)[:, 0]
        return solution.mT, shift if self.with_shift else torch.zeros_like(shift)


def inputs_of(batches: Sequence[tuple[tuple[Tensor, ...], Tensor]]) -> list[tuple[Tensor, ...]]:
    """The inputs of labelled batches."""
    return [inputs for inputs, _ in batches]
