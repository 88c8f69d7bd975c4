"""Refit layers behind a cut by least squares, so that the network is useful before any training.

Walking both networks side by side, each layer y = W x + b (convolutions of all kinds too, group by group) gets the
change (Δ, δ) that minimises, over calibration examples and positions,

    ‖ z - z' - a (Δ x' + δ) ‖²  +  λ ‖Δ‖²

where x' is what the layer reads in the smaller network (errors of earlier layers included), z and z' are the values of
the original and the smaller network at the layer's anchor, and a is the per-channel scale of a batch norm in between.
The anchor is the batch norm or residual addition behind the layer, so that a block also makes up for errors that reach
it through its shortcut (He et al. 2017, "Channel pruning", eq. 4, with its asymmetric target for whole networks).
"""

from collections.abc import Sequence
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
    layer = site.layer
    bound = arguments(layer)
    weight_name = names[bound["weight"].name]
    scale = _scale(site, second, names)
    dim = channel_dim(site.layer)
    sums = _Sums.zero(to_matrix(layer, second.state[weight_name]))
    examples = sum(len(z) for z in second.values(site.anchor.name))
    per_example = max(1, ROWS_PER_INPUT * sums.x.shape[1] // examples)
    for x, z, z_now in zip(
        second.values(_source(site).name), first.values(site.anchor.name), second.values(site.anchor.name), strict=True
    ):
        goal = z if stays is None else z.index_select(dim, stays)
        sums.add(*grouped_rows_of(layer, x, goal - z_now, per_example, sums.rows))
    shift_name = _shift_name(site, names)
    delta, shift = sums.solve(scale, with_shift=shift_name is not None)
    weight = second.state[weight_name]
    changed = {weight_name: weight + from_matrix(layer, delta, weight).to(weight.dtype)}
    if shift_name is not None:
        factor = scale if site.norm is not None else torch.ones_like(scale)
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


@dataclass
class _Sums:
    """Running sums of one regression per group of channels."""

    gram: Tensor
    cross: Tensor
    x: Tensor
    y: Tensor
    rows: int = 0

    @classmethod
    def zero(cls, matrix: Tensor) -> "_Sums":
        groups, out, inputs = matrix.shape

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(groups, *shape, dtype=torch.float64)

        return cls(zeros(inputs, inputs), zeros(inputs, out), zeros(inputs), zeros(out))

    def add(self, x: Tensor, y: Tensor) -> None:
        """x (groups, rows, in), y (groups, rows, out)."""
        self.gram += x.mT @ x
        self.cross += x.mT @ y
        self.x += x.sum(1)
        self.y += y.sum(1)
        self.rows += x.shape[1]

    def solve(self, scale: Tensor, with_shift: bool) -> tuple[Tensor, Tensor]:
        """Δ (groups, out, in) and δ (channels,) with scale · (Δ x + δ) ≈ y.

        Dead channels (scale near 0) stay as they are.
        """
        mean_x, mean_y = self.x / self.rows, self.y / self.rows
        gram, cross = self.gram / self.rows, self.cross / self.rows
        if with_shift:
            gram = gram - mean_x[:, :, None] * mean_x[:, None, :]
            cross = cross - mean_x[:, :, None] * mean_y[:, None, :]
        ridge = RIDGE * gram.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12)
        eye = torch.eye(gram.shape[1], dtype=gram.dtype)
        solution = torch.linalg.solve(gram + ridge[:, None, None] * eye, cross)
        alive = scale.abs() > 1e-6
        inverse = torch.where(alive, 1 / torch.where(alive, scale, 1.0), 0.0)
        delta = solution.mT * inverse.reshape(len(gram), -1, 1)
        left = mean_y - (mean_x[:, None, :] @ solution)[:, 0]
        shift = left.reshape(-1) * inverse if with_shift else torch.zeros_like(inverse)
        return delta, shift


def inputs_of(batches: Sequence[tuple[tuple[Tensor, ...], Tensor]]) -> list[tuple[Tensor, ...]]:
    """The inputs of labelled batches."""
    return [inputs for inputs, _ in batches]
